//! Which file of the crate uses which: every path in the code, followed to the file that defines
//! what it names, through re-exports and imported modules.
//!
//! Tests within a file are left out. A method call names no path, and is no use.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use syn::spanned::Spanned as _;
use syn::visit::Visit;

/// A module by its place below the crate.
pub type Place = Vec<String>;

/// One file, and what it lets others reach.
pub struct Module {
    pub path: PathBuf,
    pub file: syn::File,
    /// Names that are re-exported, or imported, with the path behind them.
    names: BTreeMap<String, Vec<String>>,
    /// Those that whoever uses the file may name.
    passed_on: BTreeSet<String>,
    /// Lines without those of the tests in the file.
    pub lines: usize,
}

/// All files of the crate.
pub struct Crate {
    pub modules: BTreeMap<Place, Module>,
}

fn is_test(attrs: &[syn::Attribute]) -> bool {
    attrs.iter().any(|attr| {
        attr.path().is_ident("cfg")
            && matches!(&attr.meta, syn::Meta::List(list) if list.tokens.to_string() == "test")
    })
}

fn place_of(relative: &Path) -> Place {
    let mut place: Place = relative
        .with_extension("")
        .components()
        .map(|part| part.as_os_str().to_string_lossy().into_owned())
        .collect();
    if matches!(place.last().map(String::as_str), Some("mod" | "lib")) {
        place.pop();
    }
    place
}

/// The leaves of a `use`: the name in this file, and what it stands for.
fn leaves(tree: &syn::UseTree, before: &[String], out: &mut Vec<(String, Vec<String>)>) {
    let with = |name: &syn::Ident| [before, &[name.to_string()]].concat();
    match tree {
        syn::UseTree::Path(path) => leaves(&path.tree, &with(&path.ident), out),
        syn::UseTree::Name(name) if name.ident == "self" => {
            out.push((before.last().cloned().unwrap_or_default(), before.to_vec()));
        }
        syn::UseTree::Name(name) => out.push((name.ident.to_string(), with(&name.ident))),
        syn::UseTree::Rename(rename) => out.push((rename.rename.to_string(), with(&rename.ident))),
        syn::UseTree::Glob(_) => out.push(("*".to_owned(), before.to_vec())),
        syn::UseTree::Group(group) => group
            .items
            .iter()
            .for_each(|tree| leaves(tree, before, out)),
    }
}

impl Module {
    fn read(path: &Path) -> Self {
        let text = super::read(path);
        let mut file = syn::parse_file(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        file.items.retain(|item| match item {
            syn::Item::Mod(module) => !is_test(&module.attrs),
            syn::Item::Use(used) => !is_test(&used.attrs),
            syn::Item::Fn(function) => !is_test(&function.attrs),
            syn::Item::Impl(block) => !is_test(&block.attrs),
            _ => true,
        });
        let mut names = BTreeMap::new();
        let mut passed_on = BTreeSet::new();
        for item in &file.items {
            if let syn::Item::Use(used) = item {
                let mut found = Vec::new();
                leaves(&used.tree, &[], &mut found);
                if !matches!(used.vis, syn::Visibility::Inherited) {
                    passed_on.extend(found.iter().map(|(name, _)| name.clone()));
                }
                names.extend(found);
            }
        }
        let code = text.split("\n#[cfg(test)]\nmod tests {").next();
        Self {
            path: path.to_path_buf(),
            file,
            names,
            passed_on,
            lines: code.unwrap_or_default().lines().count(),
        }
    }
}

/// The lines of every function of a file.
#[derive(Default)]
pub struct Functions(pub Vec<(String, usize)>);

impl Functions {
    fn add(&mut self, name: &syn::Ident, span: proc_macro2::Span) {
        let lines = span.end().line - span.start().line + 1;
        self.0.push((name.to_string(), lines));
    }
}

impl<'ast> Visit<'ast> for Functions {
    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        self.add(&function.sig.ident, function.block.span());
        syn::visit::visit_item_fn(self, function);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        self.add(&function.sig.ident, function.block.span());
        syn::visit::visit_impl_item_fn(self, function);
    }
}

/// The paths that a file writes.
#[derive(Default)]
struct Paths(Vec<Vec<String>>);

impl<'ast> Visit<'ast> for Paths {
    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names = path.segments.iter().map(|part| part.ident.to_string());
        self.0.push(names.collect());
        syn::visit::visit_path(self, path);
    }

    // `pub(super)` names nothing that is used.
    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {}

    fn visit_item_use(&mut self, used: &'ast syn::ItemUse) {
        // What is only passed on is used by whoever names it here.
        if matches!(used.vis, syn::Visibility::Inherited) {
            let mut found = Vec::new();
            leaves(&used.tree, &[], &mut found);
            self.0.extend(found.into_iter().map(|(_, path)| path));
        }
    }

    fn visit_macro(&mut self, called: &'ast syn::Macro) {
        // Paths in a macro's words, as far as they begin at a known place.
        let words: Vec<String> = flat(called.tokens.clone());
        for at in 0..words.len() {
            let begins = at == 0 || words[at - 1] != ":";
            if begins && words.get(at + 1).is_some_and(|w| w == ":") {
                let path = words[at..].chunks(3).scan(true, |goes_on, chunk| {
                    let part = goes_on.then(|| chunk[0].clone());
                    *goes_on = chunk.len() == 3 && chunk[1] == ":" && chunk[2] == ":";
                    part
                });
                let path: Vec<String> = path.collect();
                if path.len() > 1 {
                    self.0.push(path);
                }
            }
        }
        syn::visit::visit_macro(self, called);
    }
}

fn flat(tokens: proc_macro2::TokenStream) -> Vec<String> {
    let mut words = Vec::new();
    for token in tokens {
        match token {
            proc_macro2::TokenTree::Group(group) => {
                words.push("(".to_owned());
                words.extend(flat(group.stream()));
                words.push(")".to_owned());
            }
            other => words.push(other.to_string()),
        }
    }
    words
}

impl Crate {
    pub fn read(src: &Path) -> Self {
        let mut modules = BTreeMap::new();
        for path in super::sources(src) {
            let relative = path.strip_prefix(src).expect("below src");
            let is_test = relative.ends_with("tests.rs") || relative.ends_with("conformance.rs");
            if !is_test {
                modules.insert(place_of(relative), Module::read(&path));
            }
        }
        Self { modules }
    }

    /// The file that defines what a path names, seen from a module.
    fn resolve(&self, from: &Place, path: &[String], depth: usize) -> Option<Place> {
        if depth > 12 {
            return None;
        }
        let (first, rest) = path.split_first()?;
        match first.as_str() {
            "crate" => self.below(&Vec::new(), rest, depth),
            // The program names the library.
            "ringwood" if *from == ["main"] => self.below(&Vec::new(), rest, depth),
            "self" => self.below(from, rest, depth),
            "super" => {
                let parent = from[..from.len().checked_sub(1)?].to_vec();
                // `super::super::x`: what is left is seen from there.
                match rest.first().map(String::as_str) {
                    Some("super") => self.resolve(&parent, rest, depth + 1),
                    _ => self.below(&parent, rest, depth),
                }
            }
            _ => {
                let child = [from.as_slice(), std::slice::from_ref(first)].concat();
                if self.modules.contains_key(&child) {
                    return self.below(&child, rest, depth);
                }
                let behind = self.modules.get(from)?.names.get(first)?;
                if behind.first() == Some(first) && behind.len() == 1 {
                    return None;
                }
                let whole = [behind.as_slice(), rest].concat();
                self.resolve(from, &whole, depth + 1)
            }
        }
    }

    /// What a path names below a module.
    fn below(&self, module: &Place, path: &[String], depth: usize) -> Option<Place> {
        let Some((first, rest)) = path.split_first() else {
            return self.modules.contains_key(module).then(|| module.clone());
        };
        let child = [module.as_slice(), std::slice::from_ref(first)].concat();
        if self.modules.contains_key(&child) {
            return self.below(&child, rest, depth);
        }
        let here = self.modules.get(module)?;
        if let Some(behind) = here.names.get(first) {
            let whole = [behind.as_slice(), rest].concat();
            // What is not the crate's hides nothing that the file defines by the same name.
            let Some(found) = self.resolve(module, &whole, depth + 1) else {
                return Some(module.clone());
            };
            // What a room passes on of another is its own for those above.
            let is_its_own = found.first() != module.first() && here.passed_on.contains(first);
            return Some(if is_its_own { module.clone() } else { found });
        }
        Some(module.clone())
    }

    /// The files that each file uses.
    pub fn uses(&self) -> BTreeMap<Place, BTreeSet<Place>> {
        let mut uses = BTreeMap::new();
        for (place, module) in &self.modules {
            let mut paths = Paths::default();
            paths.visit_file(&module.file);
            let mut used = BTreeSet::new();
            for path in paths.0 {
                // A module that is named only to reach into it is not used itself.
                let is_module = |found: &Place| found.last() == path.last() && path.len() > 1;
                if let Some(found) = self.resolve(place, &path, 0)
                    && found != *place
                    // A local variable may be named like a module.
                    && !(path.len() == 1 && found.last() == path.last())
                    && !(is_module(&found) && self.modules[&found].path.ends_with("mod.rs"))
                {
                    used.insert(found);
                }
            }
            uses.insert(place.clone(), used);
        }
        uses
    }

    /// Files that use each other, directly or by way of others: each set of more than one.
    pub fn circles(&self) -> Vec<Vec<Place>> {
        let uses = self.uses();
        let reach: BTreeMap<&Place, BTreeSet<&Place>> = uses
            .keys()
            .map(|from| {
                let mut seen = BTreeSet::new();
                let mut todo = vec![from];
                while let Some(next) = todo.pop() {
                    todo.extend(uses[next].iter().filter(|used| seen.insert(*used)));
                }
                (from, seen)
            })
            .collect();
        let mut circles = Vec::new();
        let mut done = BTreeSet::new();
        for place in uses.keys() {
            if !reach[place].contains(place) || !done.insert(place) {
                continue;
            }
            let mut circle = vec![place.clone()];
            for other in &reach[place] {
                if reach[*other].contains(place) && done.insert(*other) {
                    circle.push((*other).clone());
                }
            }
            circles.push(circle);
        }
        circles
    }
}
