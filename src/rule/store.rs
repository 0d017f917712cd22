//! The samples that rules see: the newest of each series, and the recent past of those that a rule looks back at.

use super::expr::{Matcher, Selector};
use super::glob;
use crate::probe::{Labels, Sample};
use jiff::Timestamp;
use std::collections::{BTreeMap, VecDeque};

/// Points kept of one series whatever its window: an hour at one each ten seconds, and then some.
const POINTS_MAX: usize = 512;

/// Current samples by origin (a host's agent, the monitor itself), and the past of some.
#[derive(Debug, Default)]
pub struct Store {
    origins: BTreeMap<String, Vec<Sample>>,
    /// Seconds of past to keep, by sample name.
    windows: BTreeMap<String, f64>,
    past: BTreeMap<String, BTreeMap<Labels, VecDeque<(Timestamp, f64)>>>,
}

impl Store {
    /// Keeps the past of these names, this many seconds of it. What is kept already stays.
    pub fn keep<'a>(&mut self, windows: impl IntoIterator<Item = (&'a str, f64)>) {
        self.windows.clear();
        for (name, seconds) in windows {
            let longest = self.windows.entry(name.to_owned()).or_insert(seconds);
            *longest = longest.max(seconds);
        }
        self.past.retain(|name, _| self.windows.contains_key(name));
    }

    /// Replaces all samples of an origin: what it no longer reports is gone at once.
    pub fn replace(&mut self, origin: &str, samples: Vec<Sample>) {
        for sample in &samples {
            let Some(seconds) = self.windows.get(&sample.name) else { continue };
            let series = self.past.entry(sample.name.clone()).or_default();
            let points = series.entry(sample.labels.clone()).or_default();
            points.push_back((sample.at, sample.value));
            // The last point before the window stays: the window's rise begins there.
            while points.len() > POINTS_MAX
                || points.get(1).is_some_and(|(at, _)| seconds_between(*at, sample.at) > *seconds)
            {
                points.pop_front();
            }
        }
        self.origins.insert(origin.to_owned(), samples);
    }

    /// Forgets an origin that is no longer watched.
    pub fn retain(&mut self, watched: impl Fn(&str) -> bool) {
        self.origins.retain(|origin, _| watched(origin));
        for series in self.past.values_mut() {
            series.retain(|labels, _| labels.get("host").is_none_or(|host| watched(host)));
        }
    }

    /// Current samples that a selector names.
    pub fn select<'a>(&'a self, selector: &'a Selector) -> impl Iterator<Item = &'a Sample> {
        self.samples()
            .filter(|sample| sample.name == selector.name && matches(&selector.matchers, &sample.labels))
    }

    /// Every current sample.
    pub fn samples(&self) -> impl Iterator<Item = &Sample> {
        self.origins.values().flatten()
    }

    /// The kept past of a current series, oldest first.
    pub(super) fn past(&self, sample: &Sample) -> impl Iterator<Item = (Timestamp, f64)> {
        let series = self.past.get(&sample.name).and_then(|series| series.get(&sample.labels));
        series.into_iter().flatten().copied()
    }
}

pub(super) fn matches(matchers: &[Matcher], labels: &Labels) -> bool {
    matchers.iter().all(|matcher| {
        let value = labels.get(&matcher.label).map_or("", String::as_str);
        glob(&matcher.pattern, value) != matcher.negate
    })
}

/// Seconds from `earlier` to `later`.
pub(super) fn seconds_between(earlier: Timestamp, later: Timestamp) -> f64 {
    later.duration_since(earlier).as_secs_f64()
}
