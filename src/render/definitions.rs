//! The options that a NixOS module defines, read without Nix, to name those in which two versions of a file differ.

use std::collections::BTreeMap;

use rnix::ast::{AstNode, Attrpath, Entry, Expr, HasEntry};
use rnix::{NodeOrToken, SyntaxKind};

/// Returns the definitions of a module: the path of each option, or of a name in its `let`, with its expression; `None` if the
/// text is not Nix.
///
/// A set within a set is a longer path, as to Nix itself. In a call on a set, such as `lib.mkIf cfg.enable { … }`, the set is
/// read, and the path of the call itself has the function as its expression.
pub fn definitions(text: &str) -> Option<BTreeMap<String, String>> {
    let parsed = rnix::Root::parse(text);
    if !parsed.errors().is_empty() {
        return None;
    }
    let mut found = BTreeMap::new();
    collect(&parsed.tree().expr()?, "", &mut found);
    Some(found)
}

/// Returns a file's text without comments, and with one blank for any white space between two words.
pub fn essence(text: &str) -> String {
    words(&rnix::Root::parse(text).syntax())
}

fn collect(expression: &Expr, path: &str, found: &mut BTreeMap<String, String>) {
    let mut inside = |inner: Option<Expr>| {
        if let Some(inner) = inner {
            collect(&inner, path, found);
        }
    };
    match expression {
        Expr::Lambda(lambda) => inside(lambda.body()),
        Expr::Paren(paren) => inside(paren.expr()),
        Expr::With(with) => inside(with.body()),
        Expr::Assert(assert) => inside(assert.body()),
        Expr::LetIn(bindings) => {
            entries(bindings, &below(path, "let"), found);
            if let Some(body) = bindings.body() {
                collect(&body, path, found);
            }
        }
        Expr::AttrSet(set) if set.entries().next().is_some() => entries(set, path, found),
        Expr::Apply(call) => match call.argument() {
            Some(Expr::AttrSet(set)) if set.entries().next().is_some() => {
                let function = call.lambda().map(|lambda| words_of(&lambda)).unwrap_or_default();
                define(found, path, function);
                entries(&set, path, found);
            }
            _ => define(found, path, words_of(expression)),
        },
        _ => define(found, path, words_of(expression)),
    }
}

fn entries(set: &impl HasEntry, path: &str, found: &mut BTreeMap<String, String>) {
    for entry in set.entries() {
        match entry {
            Entry::AttrpathValue(pair) => {
                let Some((name, value)) = pair.attrpath().zip(pair.value()) else { continue };
                collect(&value, &below(path, &name_of(&name)), found);
            }
            Entry::Inherit(inherit) => {
                let from = inherit.from().map(|from| words_of(&from)).unwrap_or_default();
                for attribute in inherit.attrs() {
                    let name = words_of(&attribute);
                    define(found, &below(path, &name), format!("inherit {from}").trim_end().to_owned());
                }
            }
        }
    }
}

fn name_of(path: &Attrpath) -> String {
    path.attrs().map(|attribute| words_of(&attribute)).collect::<Vec<_>>().join(".")
}

/// Returns a path below another. `config` at the top is left out: a module can have its definitions there.
fn below(path: &str, name: &str) -> String {
    match path {
        "" => name.strip_prefix("config.").unwrap_or(if name == "config" { "" } else { name }).to_owned(),
        path => format!("{path}.{name}"),
    }
}

/// Adds a definition; several of one path become one text.
fn define(found: &mut BTreeMap<String, String>, path: &str, value: String) {
    let path = if path.is_empty() { "the module" } else { path };
    match found.get_mut(path) {
        Some(there) => *there = format!("{there}, {value}"),
        None => drop(found.insert(path.to_owned(), value)),
    }
}

// The bound brings `syntax` into scope: the trait with this method belongs to `rowan`, and rnix does not export it.
fn words_of(node: &impl AstNode) -> String {
    words(node.syntax())
}

fn words(node: &rnix::SyntaxNode) -> String {
    let mut text = String::new();
    let mut apart = false;
    for token in node.descendants_with_tokens().filter_map(NodeOrToken::into_token) {
        match token.kind() {
            SyntaxKind::TOKEN_WHITESPACE | SyntaxKind::TOKEN_COMMENT => apart = !text.is_empty(),
            _ => {
                if std::mem::take(&mut apart) {
                    text.push(' ');
                }
                text.push_str(token.text());
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn defined(text: &str) -> Vec<(String, String)> {
        definitions(text).unwrap().into_iter().collect()
    }

    fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        expected.iter().map(|(path, value)| ((*path).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn options_are_named_by_their_whole_path() {
        let text = "# A web server.\n{ config, lib, pkgs, ... }:\nlet\n  port = 80; # as ever\nin\n{\n  imports = [ ./core.nix ];\n  \
                    services.nginx = {\n    enable = true;\n    virtualHosts.\"a.b\".root = \"/x y\";\n  };\n  inherit (pkgs) hello;\n  \
                    config = { users.users = { }; };\n}\n";
        assert_eq!(
            defined(text),
            pairs(&[
                ("hello", "inherit (pkgs)"),
                ("imports", "[ ./core.nix ]"),
                ("let.port", "80"),
                ("services.nginx.enable", "true"),
                ("services.nginx.virtualHosts.\"a.b\".root", "\"/x y\""),
                ("users.users", "{ }"),
            ])
        );
    }

    #[test]
    fn what_a_condition_holds_is_named_and_so_is_the_condition() {
        let text = "{ lib, ... }: { config = lib.mkIf true { a.b = lib.mkForce 1; c = lib.mkDefault { d = 2; }; }; }";
        assert_eq!(
            defined(text),
            pairs(&[
                ("a.b", "lib.mkForce 1"),
                ("c", "lib.mkDefault"),
                ("c.d", "2"),
                ("the module", "lib.mkIf true")
            ])
        );
        assert_eq!(defined("1 + 1"), pairs(&[("the module", "1 + 1")]));
        assert_eq!(definitions("{ a = ; }"), None);
    }

    #[test]
    fn comments_and_layout_are_no_part_of_a_file() {
        let one = "{ a = 1;\n b = ''\n  # in a string\n''; }";
        assert_eq!(essence(one), essence("# new\n{ a   = 1; /* more */ b = ''\n  # in a string\n''; }\n"));
        assert_ne!(essence(one), essence("{ a = 1; b = ''\n  # in  a string\n''; }"));
        assert_ne!(essence("{ a = f x; }"), essence("{ a = fx; }"));
    }
}
