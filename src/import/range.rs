//! Host patterns of Ansible: `k[1:3].example.com`, `db-[a:f]`, `n[01:10:2]`.

/// All names that a pattern stands for; a name without a range stands for itself. The error says what is wrong.
pub(super) fn expand(pattern: &str) -> Result<Vec<String>, String> {
    // Brackets around an IPv6 address are no range.
    let Some((head, rest)) = pattern.split_once('[') else { return Ok(vec![pattern.to_owned()]) };
    let Some((range, tail)) = rest.split_once(']') else {
        return Err(format!("`{pattern}` opens a range and does not close it"));
    };
    let bounds: Vec<&str> = range.split(':').collect();
    let (first, last, step) = match bounds.as_slice() {
        [first, last] => (*first, *last, "1"),
        [first, last, step] => (*first, *last, *step),
        _ => return Err(format!("`[{range}]` is no range; it is written [1:3], [01:10:2] or [a:f]")),
    };
    let step: usize =
        step.parse().ok().filter(|step| *step > 0).ok_or_else(|| format!("`{step}` is no step"))?;
    let words = if first.len() == 1 && first.starts_with(|c: char| c.is_ascii_alphabetic()) {
        letters(first, last, step)
    } else {
        numbers(first, last, step)
    };
    let words =
        words.ok_or_else(|| format!("`[{range}]` is no range; it is written [1:3], [01:10:2] or [a:f]"))?;
    let mut names = Vec::new();
    for tail in expand(tail)? {
        names.extend(words.iter().map(|word| format!("{head}{word}{tail}")));
    }
    // The leftmost range counts slowest.
    names.sort_by_key(|name| words.iter().position(|word| name.starts_with(&format!("{head}{word}"))));
    Ok(names)
}

fn letters(first: &str, last: &str, step: usize) -> Option<Vec<String>> {
    let (first, last) = (first.chars().next()?, last.chars().next().filter(|_| last.len() == 1)?);
    let names: Vec<String> = (first..=last).step_by(step).map(String::from).collect();
    (!names.is_empty()).then_some(names)
}

/// Leading zeros say how wide each number is. An inventory with more hosts than this is a slip.
fn numbers(first: &str, last: &str, step: usize) -> Option<Vec<String>> {
    const HOSTS_MAX: usize = 10_000;
    let width = if first.starts_with('0') { first.len() } else { 0 };
    let first: usize = if first.is_empty() { 0 } else { first.parse().ok()? };
    let last: usize = last.parse().ok()?;
    (first <= last && last - first < HOSTS_MAX)
        .then(|| (first..=last).step_by(step).map(|number| format!("{number:0width$}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_as_ansible_documents_them() {
        for (pattern, want) in [
            ("k1", "k1"),
            ("k[1:3].x", "k1.x k2.x k3.x"),
            ("n[01:10:4]", "n01 n05 n09"),
            ("db-[a:c]", "db-a db-b db-c"),
            ("r[1:2]-[a:b]", "r1-a r1-b r2-a r2-b"),
        ] {
            assert_eq!(expand(pattern).unwrap().join(" "), want, "{pattern}");
        }
        for wrong in ["k[1:", "k[3:1]", "k[1]", "k[a:9]", "k[1:4:0]"] {
            expand(wrong).unwrap_err();
        }
    }
}
