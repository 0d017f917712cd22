//! Schedules: `hourly`, a systemd OnCalendar expression, or a five-field cron line, which is translated.

/// The OnCalendar expression for `text`, with the time zone at its end if one is given.
pub(super) fn on_calendar(text: &str, timezone: Option<&str>) -> Result<String, String> {
    let text = text.trim();
    let fields: Vec<&str> = text.split_whitespace().collect();
    let calendar = match fields.as_slice() {
        [] => return Err("the schedule is empty".to_owned()),
        [minute, hour, day, month, weekday] if !text.contains(':') => {
            cron([minute, hour, day, month, weekday])?
        }
        _ => {
            check_calendar(&fields)?;
            fields.join(" ")
        }
    };
    let Some(zone) = timezone else { return Ok(calendar) };
    if fields.last().is_some_and(|last| is_zone(last)) {
        return Err("the schedule names a time zone and `timezone` another".to_owned());
    }
    match calendar.as_str() {
        // A shorthand takes no zone in older systemd; its long form does.
        "minutely" => Ok(format!("*-*-* *:*:00 {zone}")),
        "hourly" => Ok(format!("*-*-* *:00:00 {zone}")),
        "daily" => Ok(format!("*-*-* 00:00:00 {zone}")),
        "weekly" => Ok(format!("Mon *-*-* 00:00:00 {zone}")),
        "monthly" => Ok(format!("*-*-01 00:00:00 {zone}")),
        _ => Ok(format!("{calendar} {zone}")),
    }
}

/// Whether `name` looks like `Europe/Berlin` or `UTC`.
pub(super) fn is_zone(name: &str) -> bool {
    let parts: Vec<&str> = name.split('/').collect();
    let plain = |part: &&str| {
        part.starts_with(|c: char| c.is_ascii_uppercase())
            && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '+'))
    };
    parts.iter().all(plain) && (parts.len() > 1 || name == "UTC")
}

const SHORTHANDS: [&str; 9] =
    ["minutely", "hourly", "daily", "weekly", "monthly", "quarterly", "semiannually", "yearly", "annually"];
const WEEKDAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Whether systemd would take it: weekdays, date, time, zone, each optional, in this order.
fn check_calendar(fields: &[&str]) -> Result<(), String> {
    if let [word] = fields
        && SHORTHANDS.contains(word)
    {
        return Ok(());
    }
    let mut parts = fields.iter().copied().peekable();
    let mut seen = false;
    if parts.peek().is_some_and(|part| weekdays(part)) {
        parts.next();
        seen = true;
    }
    let is_date =
        |part: &str| (part.contains('-') || part.contains('~')) && components(part, &['-', '~'], 2..=3);
    if parts.peek().is_some_and(|part| is_date(part)) {
        parts.next();
        seen = true;
    }
    if parts.peek().is_some_and(|part| part.contains(':') && components(part, &[':'], 2..=3)) {
        parts.next();
        seen = true;
    }
    if parts.peek().is_some_and(|part| is_zone(part)) {
        parts.next();
    }
    match parts.next() {
        None if seen => Ok(()),
        _ => Err(format!(
            "`{}` is neither an OnCalendar expression nor a five-field cron line",
            fields.join(" ")
        )),
    }
}

/// `Mon`, `Mon,Wed`, `Mon..Fri,Sun`.
fn weekdays(text: &str) -> bool {
    text.split(',').all(|item| item.split("..").all(is_weekday) && item.split("..").count() <= 2)
}

fn is_weekday(name: &str) -> bool {
    let full = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
    WEEKDAYS.iter().chain(&full).any(|day| day.eq_ignore_ascii_case(name))
}

fn components(text: &str, separators: &[char], count: std::ops::RangeInclusive<usize>) -> bool {
    let parts: Vec<&str> = text.split(separators).collect();
    let digits = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_digit());
    let repeated = |item: &str| {
        let (range, step) = item.split_once('/').map_or((item, "1"), |(range, step)| (range, step));
        let range = range == "*" || range.split("..").all(digits) && range.split("..").count() <= 2;
        range && digits(step)
    };
    count.contains(&parts.len()) && parts.iter().all(|part| part.split(',').all(repeated))
}

/// One field of a cron line.
#[derive(Clone, Copy)]
struct Field {
    name: &'static str,
    low: u8,
    high: u8,
    names: &'static [&'static str],
}

const MINUTE: Field = Field { name: "minute", low: 0, high: 59, names: &[] };
const HOUR: Field = Field { name: "hour", low: 0, high: 23, names: &[] };
const DAY: Field = Field { name: "day of the month", low: 1, high: 31, names: &[] };
const MONTH: Field = Field { name: "month", low: 1, high: 12, names: &MONTHS };
const WEEKDAY: Field = Field { name: "weekday", low: 0, high: 7, names: &WEEKDAYS };

/// Every field is written out as the list of its values, which all versions of systemd read alike.
fn cron([minute, hour, day, month, weekday]: [&str; 5]) -> Result<String, String> {
    let minutes = MINUTE.values(minute)?;
    let hours = HOUR.values(hour)?;
    let days = DAY.values(day)?;
    let months = MONTH.values(month)?;
    let mut weekdays: Vec<u8> = WEEKDAY.values(weekday)?.into_iter().map(|day| day % 7).collect();
    weekdays.sort_unstable();
    weekdays.dedup();
    // cron's rule, which is about the stars and not about the values.
    if !day.starts_with('*') && !weekday.starts_with('*') {
        return Err("cron takes a day of the month and a weekday as either-or, which systemd cannot say; \
                    write one of the two, or an OnCalendar expression"
            .to_owned());
    }
    let prefix = if weekdays.len() == WEEKDAYS.len() {
        String::new()
    } else {
        let names: Vec<&str> =
            weekdays.iter().filter_map(|day| WEEKDAYS.get(usize::from(*day)).copied()).collect();
        format!("{} ", names.join(","))
    };
    let list = |field: Field, values: &[u8]| {
        if values.len() == usize::from(field.high - field.low) + 1 {
            return "*".to_owned();
        }
        values.iter().map(|value| format!("{value:02}")).collect::<Vec<_>>().join(",")
    };
    Ok(format!(
        "{prefix}*-{}-{} {}:{}:00",
        list(MONTH, &months),
        list(DAY, &days),
        list(HOUR, &hours),
        list(MINUTE, &minutes)
    ))
}

impl Field {
    /// The values that `text` names, in order, each once.
    fn values(self, text: &str) -> Result<Vec<u8>, String> {
        let wrong = |what: &str| format!("`{what}` is no {} of a cron line", self.name);
        let mut values = Vec::new();
        for item in text.split(',') {
            let (range, step) = match item.split_once('/') {
                None => (item, None),
                Some((range, step)) => {
                    let step: usize = step.parse().ok().filter(|s| *s > 0).ok_or_else(|| wrong(item))?;
                    (range, Some(step))
                }
            };
            let (low, high) = match range.split_once('-') {
                _ if range == "*" => (self.low, self.high),
                Some((low, high)) => (self.value(low)?, self.value(high)?),
                // `5/15` means from 5 to the end; `5` alone only 5.
                None if step.is_some() => (self.value(range)?, self.high),
                None => (self.value(range)?, self.value(range)?),
            };
            if low > high {
                return Err(wrong(item));
            }
            values.extend((low..=high).step_by(step.unwrap_or(1)));
        }
        values.sort_unstable();
        values.dedup();
        Ok(values)
    }

    fn value(self, text: &str) -> Result<u8, String> {
        let by_name = self.names.iter().position(|name| name.eq_ignore_ascii_case(text));
        // Names count from the lowest value: Jan is 1, Sun is 0.
        let by_name = by_name.and_then(|at| u8::try_from(at).ok()).map(|at| at + self.low);
        let number = || text.parse::<u8>().ok().filter(|_| text.chars().all(|c| c.is_ascii_digit()));
        by_name
            .or_else(number)
            .filter(|value| (self.low..=self.high).contains(value))
            .ok_or_else(|| format!("`{text}` is no {} of a cron line", self.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn calendars_pass_as_they_are() {
        for text in [
            "hourly",
            "*-*-* *:05:00",
            "Mon..Fri 08:30",
            "Mon,Wed *-*-* 00/2:00:00",
            "*:0/15",
            "*-*-01 00:00",
            "*-*~03 09:00 Europe/Berlin",
        ] {
            assert_eq!(on_calendar(text, None).as_deref(), Ok(text));
        }
    }

    #[test]
    fn cron_lines_are_translated() {
        for (cron, calendar) in [
            ("0 * * * *", "*-*-* *:00:00"),
            ("*/15 * * * *", "*-*-* *:00,15,30,45:00"),
            ("30 8 * * 1-5", "Mon,Tue,Wed,Thu,Fri *-*-* 08:30:00"),
            ("0 0 1 jan *", "*-01-01 00:00:00"),
            ("0 6 * * sun", "Sun *-*-* 06:00:00"),
            ("0 6 * * 7", "Sun *-*-* 06:00:00"),
        ] {
            assert_eq!(on_calendar(cron, None).as_deref(), Ok(calendar));
        }
        assert_eq!(on_calendar("hourly", Some("UTC")).as_deref(), Ok("*-*-* *:00:00 UTC"));
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "",
            "sometimes",
            "60 * * * *",
            "* 24 * * *",
            "* * 0 * *",
            "* * * 13 *",
            "* * * * 8",
            "*/0 * * * *",
            "5-1 * * * *",
            "0 0 1 * 1",
            "a b c d e",
            "12",
            "12:xx",
            "Mon..",
            "@reboot",
            "* * * *",
            "+5 * * * *",
        ] {
            assert!(on_calendar(text, None).is_err(), "{text}");
        }
    }

    /// A cron field as data, so that the test knows its values without reading the text.
    fn field(low: u8, high: u8) -> impl Strategy<Value = (String, Vec<u8>)> {
        let item = prop_oneof![
            Just(("*".to_owned(), (low..=high).collect::<Vec<u8>>())),
            (1u8..=40)
                .prop_map(move |step| (format!("*/{step}"), (low..=high).step_by(step.into()).collect())),
            (low..=high).prop_map(|at| (at.to_string(), vec![at])),
            (low..=high, low..=high).prop_map(|(a, b)| {
                let (a, b) = (a.min(b), a.max(b));
                (format!("{a}-{b}"), (a..=b).collect())
            }),
            (low..=high, low..=high, 1u8..=9).prop_map(|(a, b, step)| {
                let (a, b) = (a.min(b), a.max(b));
                (format!("{a}-{b}/{step}"), (a..=b).step_by(step.into()).collect())
            }),
        ];
        prop::collection::vec(item, 1..4).prop_map(|items| {
            let text = items.iter().map(|(text, _)| text.as_str()).collect::<Vec<_>>().join(",");
            (text, items.into_iter().flat_map(|(_, values)| values).collect())
        })
    }

    /// Whether a moment is in an OnCalendar expression of the kind that `cron` writes.
    fn calendar_has(calendar: &str, [minute, hour, day, month, weekday]: [u8; 5]) -> bool {
        let parts: Vec<&str> = calendar.split(' ').collect();
        let (days, date, time) = match parts.as_slice() {
            [date, time] => (None, *date, *time),
            [days, date, time] => (Some(*days), *date, *time),
            other => panic!("{other:?}"),
        };
        let has = |list: &str, value: u8| list == "*" || list.split(',').any(|v| v.parse() == Ok(value));
        let date: Vec<&str> = date.split('-').collect();
        let time: Vec<&str> = time.split(':').collect();
        days.is_none_or(|days| days.split(',').any(|d| d == WEEKDAYS[usize::from(weekday)]))
            && date[0] == "*"
            && has(date[1], month)
            && has(date[2], day)
            && has(time[0], hour)
            && has(time[1], minute)
            && time[2] == "00"
    }

    proptest! {
        #[test]
        fn a_translated_cron_line_means_the_same(
            minute in field(0, 59), hour in field(0, 23), day in field(1, 31), month in field(1, 12), weekday in field(0, 7),
            moments in prop::collection::vec([0u8..60, 0..24, 1..32, 1..13, 0..7].prop_map(|m| m), 30),
        ) {
            let line = [&minute.0, &hour.0, &day.0, &month.0, &weekday.0].map(String::as_str).join(" ");
            let either_or = !day.0.starts_with('*') && !weekday.0.starts_with('*');
            match on_calendar(&line, None) {
                Err(_) => prop_assert!(either_or, "{line} was refused"),
                Ok(calendar) => {
                    prop_assert!(!either_or);
                    prop_assert!(check_calendar(&calendar.split(' ').collect::<Vec<_>>()).is_ok(), "{calendar}");
                    for at in moments {
                        let weekday_fits = weekday.1.iter().any(|d| d % 7 == at[4]);
                        let fits = minute.1.contains(&at[0]) && hour.1.contains(&at[1]) && day.1.contains(&at[2])
                            && month.1.contains(&at[3]) && weekday_fits;
                        prop_assert_eq!(calendar_has(&calendar, at), fits, "{} as {} at {:?}", line, calendar, at);
                    }
                }
            }
        }

        #[test]
        fn nothing_panics(text in "[0-9*/,a-zA-Z:. @~-]{0,30}") {
            let _read = on_calendar(&text, None);
        }
    }
}
