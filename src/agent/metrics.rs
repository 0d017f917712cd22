//! Samples as Prometheus text, format 0.0.4.

use crate::probe::Sample;
use std::collections::BTreeMap;
use std::fmt::Write;

pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Renders samples; names get the prefix `aesop_`, counters are those that end in `_total`.
pub fn prometheus_text(samples: &[Sample]) -> String {
    let mut families: BTreeMap<&str, Vec<&Sample>> = BTreeMap::new();
    for sample in samples {
        families.entry(&sample.name).or_default().push(sample);
    }
    let mut text = String::new();
    for (name, samples) in families {
        let kind = if name.ends_with("_total") { "counter" } else { "gauge" };
        line(&mut text, format_args!("# TYPE aesop_{name} {kind}"));
        for sample in samples {
            let labels: Vec<String> =
                sample.labels.iter().map(|(key, value)| format!("{key}=\"{}\"", escape(value))).collect();
            if labels.is_empty() {
                line(&mut text, format_args!("aesop_{name} {}", sample.value));
            } else {
                line(&mut text, format_args!("aesop_{name}{{{}}} {}", labels.join(","), sample.value));
            }
        }
    }
    text
}

fn line(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    writeln!(text, "{arguments}").ok();
}

fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;
    use jiff::Timestamp;

    #[test]
    fn groups_by_name_and_escapes() {
        let at = Timestamp::UNIX_EPOCH;
        let samples = [
            Sample::new("oom_kills_total", 2.0, at),
            Sample::new("disk_free_ratio", 0.25, at).label("path", "/a\"b\\c"),
            Sample::new("load1", 0.5, at),
            Sample::new("disk_free_ratio", 1.0, at).label("path", "/"),
        ];
        expect![[r#"
            # TYPE aesop_disk_free_ratio gauge
            aesop_disk_free_ratio{path="/a\"b\\c"} 0.25
            aesop_disk_free_ratio{path="/"} 1
            # TYPE aesop_load1 gauge
            aesop_load1 0.5
            # TYPE aesop_oom_kills_total counter
            aesop_oom_kills_total 2
        "#]]
        .assert_eq(&prometheus_text(&samples));
    }
}
