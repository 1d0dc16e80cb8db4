//! The lock file of a flake, `flake.lock`: which revision of each input is in use.
//!
//! Its format is described in Nix's manual, at `nix flake`, "Lock files".

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::error::{Explain, Failure, Result};

/// The input that nixvm overrides at every build with the folder of rendered machines.
const MACHINES: &str = "machines";

/// A flake's locked inputs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lock(Value);

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Locked {
    /// The commit, or the hash of the contents where there is none.
    pub revision: String,
    /// Last modification, in seconds since 1970.
    pub modified: Option<u64>,
}

/// An input whose lock has changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Moved {
    pub input: String,
    pub from: Option<Locked>,
    /// `None` for an input that was removed.
    pub to: Option<Locked>,
}

impl Lock {
    /// A flake without a lock file has nothing locked.
    pub fn parse(text: Option<&str>) -> Result<Self> {
        let Some(text) = text else {
            return Ok(Lock(json!({ "nodes": { "root": {} }, "root": "root", "version": 7 })));
        };
        let wrong = || {
            Failure::user("flake.lock is not a lock file")
                .hint("delete it, and nixvm locks every input anew; or restore it from git")
        };
        let lock = Lock(serde_json::from_str(text).explain(wrong)?);
        if lock.edges().is_none() && lock.root().is_none() {
            return Err(wrong().into());
        }
        Ok(lock)
    }

    /// The file's text, as Nix writes it.
    pub fn text(&self) -> String {
        format!("{:#}\n", self.0)
    }

    fn root(&self) -> Option<&Map<String, Value>> {
        self.0["nodes"][self.0["root"].as_str()?].as_object()
    }

    /// Returns the node, or the path of another input, for each input of the flake.
    fn edges(&self) -> Option<&Map<String, Value>> {
        self.root()?.get("inputs")?.as_object()
    }

    /// Returns the names of the locked inputs, except the one that nixvm itself gives.
    pub fn inputs(&self) -> Vec<&str> {
        let names = self.edges().into_iter().flat_map(Map::keys).map(String::as_str);
        names.filter(|name| *name != MACHINES).collect()
    }

    /// Returns the node of one of the flake's inputs; `None` for one that follows another.
    fn node(&self, input: &str) -> Option<&Value> {
        self.0["nodes"].get(self.edges()?.get(input)?.as_str()?)
    }

    pub fn locked(&self, input: &str) -> Option<Locked> {
        let locked = &self.node(input)?["locked"];
        let text = |key: &str| locked[key].as_str().map(str::to_owned);
        Some(Locked {
            revision: text("rev").or_else(|| text("narHash")).or_else(|| text("path"))?,
            modified: locked["lastModified"].as_u64(),
        })
    }

    /// Unlocks these inputs, or all of them if `names` is empty.
    #[must_use]
    pub fn without(&self, names: &[String]) -> Self {
        let mut rest = self.clone();
        if names.is_empty() {
            return Lock(json!({ "nodes": { "root": {} }, "root": "root", "version": self.0["version"] }));
        }
        if let Some(edges) = rest.edges_mut() {
            names.iter().for_each(|name| drop(edges.remove(name)));
        }
        rest
    }

    fn root_mut(&mut self) -> Option<&mut Map<String, Value>> {
        let root = self.0["root"].as_str()?.to_owned();
        self.0["nodes"][root].as_object_mut()
    }

    fn edges_mut(&mut self) -> Option<&mut Map<String, Value>> {
        self.root_mut()?.get_mut("inputs")?.as_object_mut()
    }

    /// Returns this lock with the input as `before` has it, for an input that was only overridden while this lock was made.
    #[must_use]
    pub fn with_input_of(&self, before: &Lock, input: &str) -> Self {
        let mut lock = self.clone();
        let removed = lock.edges_mut().and_then(|edges| edges.remove(input));
        if let Some(name) = removed.as_ref().and_then(Value::as_str)
            && !lock.refers_to(name)
            && let Some(nodes) = lock.0["nodes"].as_object_mut()
        {
            nodes.remove(name);
        }
        let kept = before.edges().and_then(|edges| edges.get(input)).zip(before.node(input));
        // An input with inputs of its own would bring nodes whose names may clash: Nix locks it anew when needed.
        if let Some((edge, node)) = kept.filter(|(_, node)| node.get("inputs").is_none())
            && let Some(name) = edge.as_str().filter(|name| lock.0["nodes"].get(*name).is_none())
        {
            lock.0["nodes"][name] = node.clone();
            if let Some(root) = lock.root_mut() {
                root.entry("inputs").or_insert_with(|| json!({}))[input] = edge.clone();
            }
        }
        lock
    }

    /// Returns whether any node has this one as an input.
    fn refers_to(&self, name: &str) -> bool {
        let nodes = self.0["nodes"].as_object().into_iter().flat_map(Map::values);
        let mut edges = nodes.filter_map(|node| node.get("inputs")?.as_object()).flat_map(Map::values);
        edges.any(|edge| edge == name)
    }

    /// Returns the inputs in which this lock differs from `before`.
    pub fn moved_since(&self, before: &Lock) -> Vec<Moved> {
        let names = before.inputs().into_iter().chain(self.inputs());
        let moved = names.map(|name| (name.to_owned(), (before.locked(name), self.locked(name))));
        let moved: BTreeMap<String, _> = moved.collect();
        let moved = moved.into_iter().filter(|(_, (from, to))| from != to);
        moved.map(|(input, (from, to))| Moved { input, from, to }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(revision: &str) -> Value {
        json!({ "locked": { "rev": revision, "lastModified": 7, "type": "github" }, "original": { "type": "github" } })
    }

    /// Returns a lock as the workspace template gets it.
    fn lock(nixpkgs: &Value, nixvm: &str) -> Lock {
        let mut own = node(nixvm);
        own["inputs"] = json!({ "machines": "machines", "nixpkgs": ["nixpkgs"] });
        let lock = json!({
            "nodes": {
                "machines": { "flake": false, "locked": { "path": "./nix/no-machines", "type": "path" } },
                "nixpkgs": nixpkgs,
                "nixvm": own,
                "root": { "inputs": { "machines": ["nixvm", "machines"], "nixpkgs": "nixpkgs", "nixvm": "nixvm" } },
            },
            "root": "root",
            "version": 7,
        });
        Lock::parse(Some(&lock.to_string())).unwrap()
    }

    #[test]
    fn an_input_that_moved_is_told_with_both_revisions() {
        let (old, new) = (lock(&node("a"), "1"), lock(&node("b"), "1"));
        let locked = |revision: &str| Some(Locked { revision: revision.into(), modified: Some(7) });
        assert_eq!(
            new.moved_since(&old),
            [Moved { input: "nixpkgs".into(), from: locked("a"), to: locked("b") }]
        );
        assert_eq!(old.moved_since(&old), []);
        assert_eq!(old.inputs(), ["nixpkgs", "nixvm"]);
        let none = Lock::parse(None).unwrap();
        assert_eq!((none.inputs().len(), old.moved_since(&none).len()), (0, 2));
        let path = json!({ "locked": { "narHash": "sha256-x", "path": "/p", "type": "path" } });
        assert_eq!(lock(&path, "1").locked("nixpkgs").unwrap().revision, "sha256-x");
    }

    #[test]
    fn what_replaces_an_input_for_a_while_is_not_written_into_the_lock() {
        let offline = json!({ "locked": { "narHash": "sha256-x", "path": "/offline", "type": "path" } });
        let (old, made) = (lock(&node("a"), "1"), lock(&offline, "2"));
        assert_eq!(made.with_input_of(&old, "nixpkgs"), lock(&node("a"), "2"));
        let unlocked = made.with_input_of(&Lock::parse(None).unwrap(), "nixpkgs");
        assert_eq!(unlocked.inputs(), ["nixvm"]);
        assert!(!unlocked.text().contains("offline"));
        // An update that leaves it alone begins with a lock of nothing else.
        assert_eq!(old.without(&[]).with_input_of(&old, "nixpkgs").inputs(), ["nixpkgs"]);
    }

    #[test]
    fn an_input_or_all_of_them_can_be_unlocked() {
        let lock = lock(&node("a"), "1");
        assert_eq!(lock.without(&["nixvm".into()]).inputs(), ["nixpkgs"]);
        assert!(lock.without(&[]).inputs().is_empty());
        assert_eq!(lock.without(&["other".into()]), lock);
    }

    #[test]
    fn what_is_no_lock_file_is_refused() {
        for text in ["", "{}", "[]", "<<<<<<< HEAD\n{}", r#"{"nodes":{},"root":"root"}"#] {
            assert!(Lock::parse(Some(text)).is_err(), "{text}");
        }
        let text = lock(&node("a"), "1").text();
        assert_eq!(Lock::parse(Some(&text)).unwrap().text(), text);
        assert!(text.ends_with("}\n") && text.contains("\n  \"nodes\""));
    }
}
