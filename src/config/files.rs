//! Reading a machine's files of one text, one line or one item a line.

use std::str::FromStr;

use crate::error::{Explain, Failure, Result};
use crate::model::{Libvirt, lines};

pub(super) struct Files<'a, R> {
    /// The folder's name in messages.
    pub(super) label: &'a str,
    /// Gives a file's text, `None` if there is none.
    pub(super) read: R,
}

impl<R: Fn(&str) -> Result<Option<String>>> Files<'_, R> {
    /// Reads a file that is one text.
    pub(super) fn text<T>(
        &self,
        name: &str,
        parse: impl Fn(&str) -> Result<T, Failure>,
    ) -> Result<Option<T>> {
        let wrong = || Failure::user(format!("{}/{name} is wrong", self.label));
        (self.read)(name)?.map(|text| parse(&text).explain(wrong)).transpose()
    }

    /// Reads a file of one item a line.
    pub(super) fn list<T: FromStr<Err = Failure>>(&self, name: &str) -> Result<Option<Vec<T>>> {
        (self.read)(name)?.map(|text| lines::parse(&format!("{}/{name}", self.label), &text)).transpose()
    }

    /// Reads `host` and `connection`, of which a machine has one.
    pub(super) fn libvirt(&self) -> Result<Option<Libvirt>> {
        let label = self.label;
        match (self.value("host", str::parse)?, self.value("connection", str::parse)?) {
            (Some(_), Some(_)) => Err(Failure::user(format!(
                "{label}/host and {label}/connection both say where the machine is"
            ))
            .hint("remove the one that does not lead to the libvirt that has the machine")
            .into()),
            (Some(host), None) => Ok(Some(Libvirt::Host(host))),
            (None, connection) => Ok(connection.map(Libvirt::Uri)),
        }
    }

    /// Reads a file of one line that must say something.
    pub(super) fn value<T>(
        &self,
        name: &str,
        parse: impl Fn(&str) -> Result<T, Failure>,
    ) -> Result<Option<T>> {
        match self.optional_value(name, parse)? {
            Some(None) => Err(Failure::user(format!("{}/{name} is empty", self.label))
                .hint("write the value into it, or remove the file")
                .into()),
            value => Ok(value.flatten()),
        }
    }

    /// Reads a file of one line or none.
    pub(super) fn optional_value<T>(
        &self,
        name: &str,
        parse: impl Fn(&str) -> Result<T, Failure>,
    ) -> Result<Option<Option<T>>> {
        let Some(text) = (self.read)(name)? else { return Ok(None) };
        let mut items = lines::items(&text);
        let Some((line, item)) = items.next() else { return Ok(Some(None)) };
        let place = |line| format!("{}/{name}, line {line}", self.label);
        if let Some((line, _)) = items.next() {
            return Err(Failure::user(format!("{}, is one value too many", place(line)))
                .hint("leave one value in the file; a line that begins with `#` is a comment")
                .into());
        }
        let value = parse(item.trim_end()).explain(|| Failure::user(format!("{}, is wrong", place(line))))?;
        Ok(Some(Some(value)))
    }
}
