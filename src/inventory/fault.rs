//! Collects what is wrong, by the names of keys, and finds each place in the file.

use super::error::{Diagnostic, Place, nearest};
use super::locate::{Part, locate};
use super::node::{Node, Path, Step};

/// A place by names: `kafka`, `hosts`, 1, `heap`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct At(Vec<Step>);

impl At {
    /// A key of the file's top level.
    pub(super) fn top(key: &str) -> Self {
        Self::default().key(key)
    }

    pub(super) fn key(&self, key: &str) -> Self {
        self.with(Step::Key(key.to_owned()))
    }

    pub(super) fn index(&self, index: usize) -> Self {
        self.with(Step::Index(index))
    }

    fn with(&self, step: Step) -> Self {
        let mut steps = self.0.clone();
        steps.push(step);
        Self(steps)
    }
}

/// The faults of one file.
#[derive(Debug)]
pub(super) struct Faults<'a> {
    text: &'a str,
    root: &'a Node,
    found: Vec<Diagnostic>,
}

impl<'a> Faults<'a> {
    pub(super) fn new(text: &'a str, root: &'a Node) -> Self {
        Self { text, root, found: Vec::new() }
    }

    /// A fault of the value at `at`, or of the nearest key above that the file has.
    pub(super) fn add(&mut self, at: &At, message: impl Into<String>, help: impl Into<Option<String>>) {
        let path = self.root.resolve(&at.0);
        self.add_at(&path, message.into(), help.into());
    }

    /// A fault of a key rather than its value.
    pub(super) fn add_key(&mut self, at: &At, message: impl Into<String>, help: impl Into<Option<String>>) {
        let path = self.root.resolve(&at.0);
        self.push(&path, Part::Key, message.into(), help.into());
    }

    /// A reference to something that is not there.
    pub(super) fn unknown<'n>(
        &mut self,
        at: &At,
        what: &str,
        name: &str,
        known: impl IntoIterator<Item = &'n str> + Clone,
        otherwise: &str,
    ) {
        let help = match nearest(name, known) {
            Some(near) => format!("did you mean `{near}`?"),
            None => otherwise.to_owned(),
        };
        self.add(at, format!("unknown {what} `{name}`"), help);
    }

    pub(super) fn add_at(&mut self, path: &Path, message: String, help: Option<String>) {
        let container = matches!(self.root.get(path), Some(Node::Map(_) | Node::List(_) | Node::Null));
        self.push(path, if container { Part::Key } else { Part::Value }, message, help);
    }

    pub(super) fn push(&mut self, path: &Path, part: Part, message: String, help: Option<String>) {
        // The entry of a list has no key.
        let parent = path.split_last().and_then(|(_, parent)| self.root.get(parent));
        let part = if matches!(parent, Some(Node::Map(_))) { part } else { Part::Value };
        let place = locate(self.text, path, part).map(|spot| Place::new(self.text, spot.line, spot.column));
        let fault = Diagnostic { message, place, help };
        if !self.found.contains(&fault) {
            self.found.push(fault);
        }
    }

    /// The one of two places that the file says more about; the second if it says as much about both.
    pub(super) fn nearer<'p>(&self, first: &'p At, second: &'p At) -> &'p At {
        let depth = |at: &At| self.root.resolve(&at.0).len();
        if depth(first) > depth(second) { first } else { second }
    }

    /// The line of `at`, for "first in line 3".
    pub(super) fn line(&self, at: &At) -> usize {
        locate(self.text, &self.root.resolve(&at.0), Part::Value).map_or(0, |spot| spot.line)
    }

    /// All, in the order of the file.
    pub(super) fn into_sorted(self) -> Vec<Diagnostic> {
        let mut found = self.found;
        found.sort_by_key(|fault| fault.place.as_ref().map(|place| (place.line, place.column)));
        found
    }

    pub(super) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }
}
