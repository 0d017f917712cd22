//! Evaluates expressions: Prometheus' vector semantics, with the looser rule that two elements belong together when
//! the labels that both have are equal.

use super::expr::{Aggregate, Expr, Op, Window};
use super::store::{Store, seconds_between};
use crate::probe::{Labels, Sample, to_value};
use jiff::Timestamp;
use std::collections::BTreeMap;

/// What an expression gives.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A number.
    Scalar(f64),
    /// Elements, each with labels of its own.
    Vector(Vec<Element>),
}

/// One element of a vector.
#[derive(Clone, Debug, PartialEq)]
pub struct Element {
    /// Labels.
    pub labels: Labels,
    /// Value.
    pub value: f64,
    /// The sample's note.
    pub note: Option<String>,
}

impl Element {
    fn of(sample: &Sample, value: f64) -> Self {
        Self { labels: sample.labels.clone(), value, note: sample.note.clone() }
    }
}

impl Expr {
    /// Evaluates against the current samples.
    pub fn eval(&self, store: &Store, now: Timestamp) -> Value {
        match self {
            Self::Number(number) => Value::Scalar(*number),
            Self::Select(selector) => {
                Value::Vector(store.select(selector).map(|s| Element::of(s, s.value)).collect())
            }
            Self::Window(window, selector, seconds) => {
                let over = |sample: &Sample| {
                    Element::of(sample, window_value(*window, sample, store, now, *seconds))
                };
                Value::Vector(store.select(selector).map(over).collect())
            }
            Self::Absent(selector) => Value::Vector(match store.select(selector).next() {
                Some(_) => Vec::new(),
                None => vec![Element { labels: Labels::new(), value: 1.0, note: None }],
            }),
            Self::Aggregate(aggregate, inner, by) => {
                Value::Vector(aggregated(*aggregate, inner.eval(store, now), by))
            }
            Self::Binary(op, left, right) => binary(*op, left.eval(store, now), right.eval(store, now)),
        }
    }

    /// The elements for which the expression holds.
    pub fn holds_for(&self, store: &Store, now: Timestamp) -> Vec<Element> {
        match self.eval(store, now) {
            Value::Vector(elements) => elements,
            Value::Scalar(number) if number != 0.0 => {
                vec![Element { labels: Labels::new(), value: number, note: None }]
            }
            Value::Scalar(_) => Vec::new(),
        }
    }
}

fn window_value(window: Window, sample: &Sample, store: &Store, now: Timestamp, seconds: f64) -> f64 {
    let past: Vec<(Timestamp, f64)> = store.past(sample).collect();
    let inside = |at: &Timestamp| seconds_between(*at, now) <= seconds;
    let values = past.iter().filter(|(at, _)| inside(at)).map(|(_, value)| *value);
    match window {
        Window::Max => values.fold(sample.value, f64::max),
        Window::Min => values.fold(sample.value, f64::min),
        Window::Delta => rise(&past, inside),
        Window::Rate if seconds > 0.0 => rise(&past, inside) / seconds,
        Window::Rate => 0.0,
    }
}

/// Sum of the rises whose end is inside the window; a counter that fell has been restarted from zero.
fn rise(past: &[(Timestamp, f64)], inside: impl Fn(&Timestamp) -> bool) -> f64 {
    let steps = past.iter().zip(past.iter().skip(1));
    let rises = steps.filter(|(_, (at, _))| inside(at));
    rises.map(|((_, before), (_, after))| if after < before { *after } else { after - before }).sum()
}

fn aggregated(aggregate: Aggregate, value: Value, by: &[String]) -> Vec<Element> {
    let elements = match value {
        Value::Vector(elements) => elements,
        Value::Scalar(value) => vec![Element { labels: Labels::new(), value, note: None }],
    };
    let mut groups: BTreeMap<Labels, Vec<f64>> = BTreeMap::new();
    for element in elements {
        let labels: Labels = element.labels.into_iter().filter(|(key, _)| by.contains(key)).collect();
        groups.entry(labels).or_default().push(element.value);
    }
    let fold = |values: &[f64]| match aggregate {
        Aggregate::Sum => values.iter().sum(),
        Aggregate::Max => values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        Aggregate::Min => values.iter().copied().fold(f64::INFINITY, f64::min),
        Aggregate::Count => to_value(u64::try_from(values.len()).unwrap_or(u64::MAX)),
    };
    groups.into_iter().map(|(labels, values)| Element { labels, value: fold(&values), note: None }).collect()
}

fn binary(op: Op, left: Value, right: Value) -> Value {
    match (left, right) {
        (Value::Scalar(a), Value::Scalar(b)) => Value::Scalar(scalars(op, a, b)),
        (Value::Vector(elements), Value::Scalar(b)) => {
            Value::Vector(elements.into_iter().filter_map(|element| scalar_right(op, &element, b)).collect())
        }
        (Value::Scalar(a), Value::Vector(elements)) => Value::Vector(
            elements
                .into_iter()
                .filter_map(|element| {
                    let scalar = Element { value: a, ..element.clone() };
                    let value = joined(op, &scalar, &element)?.value;
                    // A comparison keeps the element's own value, arithmetic makes a new one.
                    let kept = arithmetic(op, 1.0, 1.0).is_none();
                    Some(if kept { element } else { Element { value, ..element } })
                })
                .collect(),
        ),
        (Value::Vector(left), Value::Vector(right)) => Value::Vector(vectors(op, left, right)),
    }
}

fn scalars(op: Op, a: f64, b: f64) -> f64 {
    let (left, right) = (a != 0.0, b != 0.0);
    let chosen = match op {
        Op::And => Some(if left { b } else { 0.0 }),
        Op::Or => Some(if left { a } else { b }),
        Op::Unless => Some(if right { 0.0 } else { a }),
        Op::Gt | Op::Ge | Op::Lt | Op::Le | Op::Eq | Op::Ne => Some(f64::from(u8::from(compare(op, a, b)))),
        Op::Add | Op::Sub | Op::Mul | Op::Div => arithmetic(op, a, b),
    };
    chosen.unwrap_or(f64::NAN)
}

fn scalar_right(op: Op, element: &Element, b: f64) -> Option<Element> {
    let other = Element { value: b, note: None, labels: element.labels.clone() };
    joined(op, element, &other)
}

fn vectors(op: Op, left: Vec<Element>, right: Vec<Element>) -> Vec<Element> {
    let partner = |element: &Element, among: &[Element]| {
        among.iter().find(|other| compatible(&element.labels, &other.labels)).cloned()
    };
    match op {
        Op::And => left.into_iter().filter(|element| partner(element, &right).is_some()).collect(),
        Op::Unless => left.into_iter().filter(|element| partner(element, &right).is_none()).collect(),
        Op::Or => {
            let more = right.into_iter().filter(|element| !left.iter().any(|l| l.labels == element.labels));
            let more: Vec<Element> = more.collect();
            left.into_iter().chain(more).collect()
        }
        Op::Gt | Op::Ge | Op::Lt | Op::Le | Op::Eq | Op::Ne | Op::Add | Op::Sub | Op::Mul | Op::Div => {
            left.iter().filter_map(|element| joined(op, element, &partner(element, &right)?)).collect()
        }
    }
}

/// An operator between two elements that belong together; the left one's labels and note stay.
fn joined(op: Op, left: &Element, right: &Element) -> Option<Element> {
    if matches!(op, Op::Add | Op::Sub | Op::Mul | Op::Div) {
        let value = arithmetic(op, left.value, right.value)?;
        return value.is_finite().then(|| Element { value, ..left.clone() });
    }
    compare(op, left.value, right.value).then(|| left.clone())
}

fn arithmetic(op: Op, a: f64, b: f64) -> Option<f64> {
    match op {
        Op::Add => Some(a + b),
        Op::Sub => Some(a - b),
        Op::Mul => Some(a * b),
        Op::Div => Some(if b == 0.0 { f64::NAN } else { a / b }),
        Op::Or | Op::And | Op::Unless | Op::Gt | Op::Ge | Op::Lt | Op::Le | Op::Eq | Op::Ne => None,
    }
}

#[expect(clippy::float_cmp, reason = "states and counts are whole numbers, and rules compare them with ==")]
fn compare(op: Op, a: f64, b: f64) -> bool {
    match op {
        Op::Gt => a > b,
        Op::Ge => a >= b,
        Op::Lt => a < b,
        Op::Le => a <= b,
        Op::Eq => a == b,
        Op::Ne => a != b,
        Op::And => b != 0.0,
        Op::Or | Op::Unless | Op::Add | Op::Sub | Op::Mul | Op::Div => true,
    }
}

/// Whether the labels that both have are equal.
pub(super) fn compatible(a: &Labels, b: &Labels) -> bool {
    a.iter().all(|(key, value)| b.get(key).is_none_or(|other| other == value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn store() -> Store {
        let mut store = Store::default();
        store.keep([("restarts_total", 600.0)]);
        for (second, restarts) in [(0, 1.0), (300, 2.0), (600, 4.0), (900, 1.0)] {
            let sample =
                |name: &str, host: &str, value: f64| Sample::new(name, value, at(second)).label("host", host);
            store.replace(
                "k1",
                vec![
                    sample("free", "k1", 0.1).label("path", "/"),
                    sample("free", "k1", 0.5).label("path", "/var"),
                    sample("bytes", "k1", 5.0).label("path", "/"),
                    sample("restarts_total", "k1", restarts),
                    sample("controller", "k1", 1.0),
                ],
            );
            store.replace("k2", vec![sample("controller", "k2", 1.0), sample("free", "k2", 0.05)]);
        }
        store
    }

    fn check(text: &str, expected: &Expect) {
        let elements = Expr::parse(text).unwrap().holds_for(&store(), at(900));
        let lines: Vec<String> = elements
            .iter()
            .map(|e| format!("{:?} {}", e.labels.values().collect::<Vec<_>>(), e.value))
            .collect();
        expected.assert_eq(&lines.join("\n"));
    }

    #[test]
    fn evaluates() {
        check(
            "free < 20%",
            &expect![[r#"
            ["k1", "/"] 0.1
            ["k2"] 0.05"#]],
        );
        check("free{path=\"/v*\"} < 1", &expect![[r#"["k1", "/var"] 0.5"#]]);
        check("free{host!=\"k1\"} < 1", &expect![[r#"["k2"] 0.05"#]]);
        check("free < 20% and bytes < 6", &expect![[r#"["k1", "/"] 0.1"#]]);
        check(
            "free unless bytes",
            &expect![[r#"
            ["k1", "/var"] 0.5
            ["k2"] 0.05"#]],
        );
        check("free / bytes > 0", &expect![[r#"["k1", "/"] 0.02"#]]);
        check("sum(controller) != 1", &expect!["[] 2"]);
        check("count(free) by (host) > 1", &expect![[r#"["k1"] 2"#]]);
        check(
            "0.3 > free",
            &expect![[r#"
            ["k1", "/"] 0.1
            ["k2"] 0.05"#]],
        );
        check("absent(nothing)", &expect!["[] 1"]);
        check("absent(free)", &expect![""]);
        check("bytes / 0 > 0", &expect![""]);
    }

    #[test]
    fn a_counter_that_restarts_goes_on_from_zero() {
        // Up by 1, up by 2, then down to 1: restarted, and 1 since.
        check("delta(restarts_total, 10m) > 0", &expect![[r#"["k1"] 4"#]]);
        check("delta(restarts_total, 2m) > 0", &expect![[r#"["k1"] 1"#]]);
        check("max_over(restarts_total, 10m) > 3", &expect![[r#"["k1"] 4"#]]);
    }
}
