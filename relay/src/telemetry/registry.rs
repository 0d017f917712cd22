//! The beans of a program.

use super::ObjectName;
use super::name::Pattern;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// How an attribute behaves over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Goes up and down.
    Gauge,
    /// Only rises; its name ends in `Total`.
    Counter,
    /// A word out of few; in `/metrics` a label of a constant 1.
    Info,
    /// Free text, as an error's; not in `/metrics`.
    Text,
}

/// An attribute's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A signed number.
    Int(i64),
    /// An unsigned number.
    Uint(u64),
    /// Yes or no; 1 or 0 in `/metrics`.
    Bool(bool),
    /// A text.
    Text(String),
    /// Not known.
    Null,
}

type Read = Box<dyn Fn() -> Value + Send + Sync>;

struct Attribute {
    kind: Kind,
    read: Read,
}

type Attributes = RwLock<BTreeMap<&'static str, Attribute>>;
type Beans = RwLock<BTreeMap<ObjectName, Arc<Attributes>>>;

/// The beans of a program; clones share them.
#[derive(Clone, Default)]
pub struct Registry {
    beans: Arc<Beans>,
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let beans = self.beans.read().unwrap_or_else(PoisonError::into_inner);
        f.debug_set().entries(beans.keys().map(ToString::to_string)).finish()
    }
}

/// One bean as a reader sees it.
pub(super) struct Snapshot {
    pub(super) name: ObjectName,
    pub(super) attributes: BTreeMap<&'static str, (Kind, Value)>,
}

impl Registry {
    /// Registers a bean, in the place of an older one of the same name. It goes when the handle is dropped.
    pub fn bean(&self, name: ObjectName) -> Bean {
        let attributes = Arc::new(Attributes::default());
        let mut beans = self.beans.write().unwrap_or_else(PoisonError::into_inner);
        beans.insert(name.clone(), Arc::clone(&attributes));
        Bean { name, attributes, beans: Arc::clone(&self.beans) }
    }

    pub(super) fn names(&self, pattern: &Pattern) -> Vec<ObjectName> {
        let beans = self.beans.read().unwrap_or_else(PoisonError::into_inner);
        beans.keys().filter(|name| pattern.matches(name)).cloned().collect()
    }

    pub(super) fn read(&self, pattern: Option<&Pattern>) -> Vec<Snapshot> {
        let beans = self.beans.read().unwrap_or_else(PoisonError::into_inner);
        let matching = beans.iter().filter(|(name, _)| pattern.is_none_or(|pattern| pattern.matches(name)));
        matching
            .map(|(name, attributes)| {
                let attributes = attributes.read().unwrap_or_else(PoisonError::into_inner);
                let attributes = attributes.iter().map(|(name, a)| (*name, (a.kind, (a.read)()))).collect();
                Snapshot { name: name.clone(), attributes }
            })
            .collect()
    }
}

/// A registered bean: add attributes, keep it as long as it is to be seen.
#[derive(Clone)]
#[must_use = "a bean goes when its handle is dropped"]
pub struct Bean {
    name: ObjectName,
    attributes: Arc<Attributes>,
    beans: Arc<Beans>,
}

impl fmt::Debug for Bean {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Bean").field(&self.name.to_string()).finish()
    }
}

impl Bean {
    /// A number that goes up and down.
    pub fn gauge(&self, attribute: &'static str) -> Gauge {
        let gauge = Gauge::default();
        let cell = Arc::clone(&gauge.0);
        self.computed(attribute, Kind::Gauge, move || Value::Int(cell.load(Ordering::Relaxed)));
        gauge
    }

    /// A number that only rises; its name ends in `Total`.
    pub fn counter(&self, attribute: &'static str) -> Counter {
        let counter = Counter::default();
        let cell = Arc::clone(&counter.0);
        self.computed(attribute, Kind::Counter, move || Value::Uint(cell.load(Ordering::Relaxed)));
        counter
    }

    /// Yes or no.
    pub fn flag(&self, attribute: &'static str) -> Flag {
        let flag = Flag::default();
        let cell = Arc::clone(&flag.0);
        self.computed(attribute, Kind::Gauge, move || Value::Bool(cell.load(Ordering::Relaxed)));
        flag
    }

    /// A word out of few ([`Kind::Info`]) or a free text ([`Kind::Text`]).
    pub fn text(&self, attribute: &'static str, kind: Kind) -> Text {
        let text = Text::default();
        let cell = Arc::clone(&text.0);
        self.computed(attribute, kind, move || {
            Value::Text(cell.lock().unwrap_or_else(PoisonError::into_inner).clone())
        });
        text
    }

    /// A value worked out when it is read. It must be quick and must not touch the registry.
    pub fn computed(
        &self,
        attribute: &'static str,
        kind: Kind,
        read: impl Fn() -> Value + Send + Sync + 'static,
    ) {
        let mut attributes = self.attributes.write().unwrap_or_else(PoisonError::into_inner);
        attributes.insert(attribute, Attribute { kind, read: Box::new(read) });
    }
}

impl Drop for Bean {
    fn drop(&mut self) {
        // Two are left when the last handle goes: this one and the registry's.
        if Arc::strong_count(&self.attributes) > 2 {
            return;
        }
        let mut beans = self.beans.write().unwrap_or_else(PoisonError::into_inner);
        if beans.get(&self.name).is_some_and(|current| Arc::ptr_eq(current, &self.attributes)) {
            beans.remove(&self.name);
        }
    }
}

/// A number that goes up and down.
#[derive(Clone, Debug, Default)]
pub struct Gauge(Arc<AtomicI64>);

impl Gauge {
    /// Sets it.
    pub fn set(&self, value: i64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Sets it, saturating.
    pub fn set_u64(&self, value: u64) {
        self.set(i64::try_from(value).unwrap_or(i64::MAX));
    }

    /// Adds to it; the value may be negative.
    pub fn add(&self, value: i64) {
        self.0.fetch_add(value, Ordering::Relaxed);
    }

    /// Reads it.
    pub fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that only rises.
#[derive(Clone, Debug, Default)]
pub struct Counter(Arc<AtomicU64>);

impl Counter {
    /// Adds to it.
    pub fn add(&self, value: u64) {
        self.0.fetch_add(value, Ordering::Relaxed);
    }

    /// Reads it.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Yes or no.
#[derive(Clone, Debug, Default)]
pub struct Flag(Arc<AtomicBool>);

impl Flag {
    /// Sets it.
    pub fn set(&self, value: bool) {
        self.0.store(value, Ordering::Relaxed);
    }
}

/// A text.
#[derive(Clone, Debug, Default)]
pub struct Text(Arc<Mutex<String>>);

impl Text {
    /// Sets it.
    pub fn set(&self, value: impl Into<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = value.into();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bean_goes_with_its_handle_and_never_takes_its_successor_along() {
        let registry = Registry::default();
        let name = || ObjectName::new("aesop.relay", &[("type", "Stream"), ("member", "c1")]);
        let first = registry.bean(name());
        let second = registry.bean(name());
        second.counter("RowsSentTotal").add(3);
        drop(first);
        assert_eq!(registry.read(None)[0].attributes["RowsSentTotal"].1, Value::Uint(3));
        drop(second);
        assert!(registry.read(None).is_empty());
    }
}
