//! Which file imports which, from the code itself.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use syn::visit::{self, Visit};
use syn::{Attribute, Item, ItemMod, ItemUse, UseTree, Visibility};
use walkdir::WalkDir;

/// A module or a name in one, from the crate's root on: `["ops", "life"]`.
type Name = Vec<String>;

/// The files of a crate, and what each imports.
pub struct Imports {
    files: BTreeMap<Name, PathBuf>,
    edges: BTreeMap<PathBuf, BTreeSet<PathBuf>>,
}

/// What one file says of others.
#[derive(Default)]
struct Said {
    module: Name,
    /// Every path that begins at the crate, at a parent or at a module inside this one.
    paths: Vec<Name>,
    /// The names that others find here, and what they stand for.
    exported: BTreeMap<String, Name>,
    /// Whether there is more in it than modules and names for what is in them.
    defines: bool,
}

impl Imports {
    /// Reads the files below a folder.
    pub fn of_folder(root: &Path) -> Self {
        let files = WalkDir::new(root).into_iter().filter_map(Result::ok);
        let files = files.filter(|entry| entry.path().extension().is_some_and(|extension| extension == "rs"));
        Self::of_texts(files.map(|file| {
            let text = fs::read_to_string(file.path()).unwrap();
            (file.path().strip_prefix(root).unwrap().to_owned(), text)
        }))
    }

    /// Reads files by their paths from the crate's root on.
    pub fn of_texts(texts: impl IntoIterator<Item = (PathBuf, String)>) -> Self {
        let texts: BTreeMap<Name, (PathBuf, String)> =
            texts.into_iter().map(|(path, text)| (module(&path), (path, text))).collect();
        let files: BTreeMap<Name, PathBuf> =
            texts.iter().map(|(module, (path, _))| (module.clone(), path.clone())).collect();
        let said: BTreeMap<Name, Said> = texts
            .into_iter()
            .map(|(module, (path, text))| {
                let code =
                    syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
                (module.clone(), Said::of(module, &code, &files))
            })
            .collect();
        let edges = said.values().map(|file| {
            let from = files[&file.module].clone();
            let owners =
                file.paths.iter().filter_map(|path| owner(path, &said)).map(|owner| files[&owner].clone());
            let to: BTreeSet<PathBuf> = owners.filter(|to| *to != from).collect();
            // A file of modules and names alone passes on what it knows, and needs none of it.
            (from, if file.defines { to } else { BTreeSet::new() })
        });
        Imports { edges: edges.collect(), files }
    }

    /// Returns every import: the file that has it, and the file that it is of.
    pub fn all(&self) -> impl Iterator<Item = (&Path, &Path)> {
        self.edges.iter().flat_map(|(from, to)| to.iter().map(move |to| (from.as_path(), to.as_path())))
    }

    pub fn count(&self) -> usize {
        self.files.len()
    }

    /// Returns a shortest circle of imports through each file that is on one, each circle once.
    pub fn circles(&self) -> Vec<Vec<&Path>> {
        let mut known = BTreeSet::new();
        let circles = self.edges.keys().filter_map(|file| self.way_back(file));
        circles.filter(|circle| known.insert(circle.iter().copied().collect::<BTreeSet<_>>())).collect()
    }

    /// Returns the shortest way from a file back to itself.
    fn way_back(&self, file: &PathBuf) -> Option<Vec<&Path>> {
        let mut ways: Vec<Vec<&PathBuf>> = self.edges[file].iter().map(|next| vec![next]).collect();
        let mut seen = BTreeSet::new();
        while !ways.is_empty() {
            if let Some(way) = ways.iter().find(|way| way.last() == Some(&file)) {
                return Some(way.iter().map(|path| path.as_path()).collect());
            }
            ways = ways
                .into_iter()
                .flat_map(|way| {
                    let nexts = way.last().map(|last| &self.edges[*last]).into_iter().flatten();
                    nexts.map(|next| [way.as_slice(), &[next]].concat()).collect::<Vec<_>>()
                })
                .filter(|way| way.last().is_some_and(|last| seen.insert(*last)))
                .collect();
        }
        None
    }
}

impl Said {
    fn of(module: Name, code: &syn::File, files: &BTreeMap<Name, PathBuf>) -> Self {
        let mut said = Said { module, ..Said::default() };
        said.defines = code.items.iter().any(|item| match item {
            Item::Mod(module) => module.content.is_some() && !is_test(&module.attrs),
            Item::Use(item) => matches!(item.vis, Visibility::Inherited),
            _ => true,
        });
        said.visit_file(code);
        // A path that begins with a name is one into a module of that name inside this one, or none of ours.
        let here = said.module.clone();
        said.paths.retain(|path| path.starts_with(&here) || files.contains_key(&path[..1]));
        said
    }

    /// Takes note of a path as it is written in this file.
    fn note(&mut self, path: &[String]) -> Option<Name> {
        let mut base = self.module.clone();
        let mut rest = path;
        match path.first()?.as_str() {
            "crate" => (base, rest) = (Name::new(), &path[1..]),
            "self" => rest = &path[1..],
            "super" => {
                while rest.first().is_some_and(|word| word == "super") {
                    base.pop();
                    rest = &rest[1..];
                }
            }
            "std" | "core" => return None,
            _ => {}
        }
        let name = [base, rest.to_vec()].concat();
        if !name.is_empty() {
            self.paths.push(name.clone());
        }
        Some(name)
    }

    fn note_tree(&mut self, before: &[String], tree: &UseTree, exported: bool) {
        let mut full = before.to_vec();
        match tree {
            UseTree::Path(path) => {
                full.push(path.ident.to_string());
                self.note_tree(&full, &path.tree, exported);
            }
            UseTree::Group(group) => {
                group.items.iter().for_each(|tree| self.note_tree(before, tree, exported));
            }
            UseTree::Glob(_) => drop(self.note(&full)),
            UseTree::Name(_) | UseTree::Rename(_) => {
                let (name, alias) = match tree {
                    UseTree::Rename(renamed) => (renamed.ident.to_string(), renamed.rename.to_string()),
                    UseTree::Name(name) => (name.ident.to_string(), name.ident.to_string()),
                    _ => return,
                };
                if name != "self" {
                    full.push(name);
                }
                if let Some(target) = self.note(&full).filter(|_| exported) {
                    self.exported.insert(alias, target);
                }
            }
        }
    }
}

impl<'a> Visit<'a> for Said {
    fn visit_item_mod(&mut self, module: &'a ItemMod) {
        // Tests may look at whatever they like.
        if !is_test(&module.attrs) {
            visit::visit_item_mod(self, module);
        }
    }

    fn visit_item_use(&mut self, item: &'a ItemUse) {
        self.note_tree(&[], &item.tree, !matches!(item.vis, Visibility::Inherited));
    }

    fn visit_path(&mut self, path: &'a syn::Path) {
        let words: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        if words.len() > 1 {
            self.note(&words);
        }
        visit::visit_path(self, path);
    }
}

fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| match attribute.parse_args::<syn::Path>() {
        Ok(argument) => attribute.path().is_ident("cfg") && argument.is_ident("test"),
        Err(_) => false,
    })
}

/// Returns the module of a file: `ops/life/mod.rs` is `ops::life`.
fn module(path: &Path) -> Name {
    let mut words: Name =
        path.with_extension("").iter().map(|word| word.to_string_lossy().into_owned()).collect();
    if words.last().is_some_and(|last| ["mod", "lib", "main"].contains(&last.as_str())) {
        words.pop();
    }
    words
}

/// Returns the module in whose file that name is defined, wherever else it can be found.
fn owner(name: &[String], said: &BTreeMap<Name, Said>) -> Option<Name> {
    let deepest = (0..=name.len()).rev().find(|length| said.contains_key(&name[..*length]))?;
    let (module, rest) = name.split_at(deepest);
    match rest.first().and_then(|first| said[module].exported.get(first)) {
        Some(target) if target != name => owner(&[target.as_slice(), &rest[1..]].concat(), said),
        _ => Some(module.to_vec()),
    }
}
