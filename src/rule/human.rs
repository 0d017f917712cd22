//! Numbers as people read them.

/// Bytes in binary units, three figures: `1.2 MiB`.
pub fn bytes(value: f64) -> String {
    let mut value = value;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value.abs() < 1023.95 {
            return if unit == "B" { format!("{value:.0} B") } else { format!("{value:.1} {unit}") };
        }
        value /= 1024.0;
    }
    format!("{value:.1} TiB")
}

/// A duration in its two largest units: `4 m 10 s`.
pub fn seconds(value: f64) -> String {
    if !value.is_finite() || value < 0.0 {
        return "unknown".to_owned();
    }
    if value < 10.0 {
        return format!("{value:.1} s");
    }
    let whole = value.round();
    for (unit, size, smaller, smaller_size) in
        [("d", 86400.0, "h", 3600.0), ("h", 3600.0, "m", 60.0), ("m", 60.0, "s", 1.0)]
    {
        if whole >= size {
            let rest = ((whole % size) / smaller_size).floor();
            return format!("{:.0} {unit} {rest:.0} {smaller}", (whole / size).floor());
        }
    }
    format!("{whole:.0} s")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_well() {
        for (value, text) in [(0.0, "0 B"), (1023.0, "1023 B"), (1024.0, "1.0 KiB"), (1.5e9, "1.4 GiB")] {
            assert_eq!(bytes(value), text);
        }
        for (value, text) in [
            (0.25, "0.2 s"),
            (59.4, "59 s"),
            (59.6, "1 m 0 s"),
            (250.0, "4 m 10 s"),
            (90_000.0, "1 d 1 h"),
            (-1.0, "unknown"),
        ] {
            assert_eq!(seconds(value), text);
        }
    }
}
