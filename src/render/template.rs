//! The templates, and the one function that fills them.

use std::sync::LazyLock;

use minijinja::value::Value;
use minijinja::{AutoEscape, Environment, ErrorKind, Output, State, UndefinedBehavior};
use serde::Serialize;

use super::{nix, xml};
use crate::error::{Failure, Result};

/// The values of one template; the type ties the file to its context.
pub(super) trait Context: Serialize {
    /// The name of the target file, whose suffix decides the escaping; also the template's name.
    const TARGET: &'static str;
}

const TEMPLATES: [(&str, &str); 4] = [
    ("machine.nix", include_str!("../../templates/machine.nix.j2")),
    ("domain.xml", include_str!("../../templates/domain.xml.j2")),
    ("pool.xml", include_str!("../../templates/pool.xml.j2")),
    ("network.xml", include_str!("../../templates/network.xml.j2")),
];

static ENVIRONMENT: LazyLock<std::result::Result<Environment<'static>, minijinja::Error>> =
    LazyLock::new(|| {
        let mut environment = empty();
        for (name, text) in TEMPLATES {
            environment.add_template(name, text)?;
        }
        Ok(environment)
    });

/// Returns the text of `C`'s template with `context` in it.
///
/// # Errors
/// A value, such as a NUL, cannot be written into that target; or the template is broken.
pub(super) fn render<C: Context>(context: &C) -> Result<String> {
    let rendered = match &*ENVIRONMENT {
        Ok(environment) => environment.get_template(C::TARGET).and_then(|template| template.render(context)),
        Err(broken) => {
            return Err(Failure::bug("a built-in template is broken")
                .because(anyhow::anyhow!("{broken:#}"))
                .into());
        }
    };
    rendered.map_err(|error| {
        let error = anyhow::Error::from(error);
        let refused = error.chain().any(<dyn std::error::Error>::is::<Failure>);
        let message = format!("cannot write {}", C::TARGET);
        if refused {
            Failure::user(message).because(error).into()
        } else {
            Failure::bug(message).because(error).into()
        }
    })
}

/// Returns an environment without templates that escapes every value for its target.
fn empty() -> Environment<'static> {
    let mut environment = Environment::empty();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_keep_trailing_newline(true);
    environment.set_auto_escape_callback(|name| match name.rsplit('.').next() {
        Some("nix") => AutoEscape::Custom("nix"),
        Some("xml") => AutoEscape::Custom("xml"),
        // The formatter refuses other targets.
        _ => AutoEscape::None,
    });
    environment.add_test("none", Value::is_none);
    environment.set_formatter(format);
    environment
}

/// Writes one value; strings marked `safe` are escaped like all others.
fn format(out: &mut Output, state: &State, value: &Value) -> std::result::Result<(), minijinja::Error> {
    let text = match state.auto_escape() {
        AutoEscape::Custom("nix") => nix::expression(value),
        AutoEscape::Custom("xml") => xml::text(value),
        _ => Err(Failure::bug(format!("the suffix of `{}` has no way to escape values", state.name()))),
    };
    let text = text.map_err(|refused| {
        minijinja::Error::new(ErrorKind::BadSerialization, "a value cannot be written").with_source(refused)
    })?;
    out.write_str(&text).map_err(minijinja::Error::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use minijinja::context;

    fn rendered(target: &'static str, text: &'static str) -> std::result::Result<String, minijinja::Error> {
        let mut environment = empty();
        environment.add_template(target, text)?;
        let value = Value::from_safe_string("<\"${x}\">".to_owned());
        environment.get_template(target)?.render(context! { value })
    }

    #[test]
    fn the_targets_suffix_decides_and_safe_strings_are_no_way_around_it() {
        assert_eq!(rendered("a.nix", "{{ value }}").unwrap(), r#""<\"\${x}\">""#);
        assert_eq!(rendered("a.xml", "{{ value }}").unwrap(), "&lt;&quot;${x}&quot;&gt;");
        assert!(rendered("a.txt", "{{ value }}").is_err());
        assert!(rendered("a.xml", "{{ value | safe }}").is_err(), "there is no such filter");
    }

    #[test]
    fn what_is_not_there_is_an_error() {
        assert!(rendered("a.nix", "{{ velue }}").is_err());
        assert!(rendered("a.nix", "{% if velue %}{% endif %}").is_err());
        assert!(rendered("a.nix", "{{ value if false }}").is_err());
    }

    #[test]
    fn all_templates_compile() {
        assert!(ENVIRONMENT.is_ok(), "{:?}", ENVIRONMENT.as_ref().err());
    }
}
