//! Moments, as microseconds since 1970, and as RFC 3339 writes them.

/// A moment: microseconds since 1970-01-01T00:00:00Z, leap seconds not counted.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Timestamp(pub u64);

const RFC3339_BYTES: usize = 27;
const MICROS_PER_S: u64 = 1_000_000;
const SECONDS_PER_DAY: u64 = 86_400;

/// The last moment that has four digits for its year.
const RFC3339_MAX: Timestamp = Timestamp(253_402_300_799_999_999);

impl Timestamp {
    /// `2026-11-22T01:36:41.422389Z`: always UTC, always six digits. A moment after the year 9999
    /// is written as the last one of it.
    pub fn rfc3339(&self) -> String {
        let mut out = Vec::with_capacity(RFC3339_BYTES);
        self.write_rfc3339(&mut out);
        String::from_utf8(out).expect("digits and separators are ASCII")
    }

    /// Appends what [`Timestamp::rfc3339`] gives. Every view has one or two.
    pub fn write_rfc3339(&self, out: &mut Vec<u8>) {
        let micros = self.0.min(RFC3339_MAX.0);
        let seconds = micros / MICROS_PER_S;
        let (year, month, day) = date_of(seconds / SECONDS_PER_DAY);
        let of_day = seconds % SECONDS_PER_DAY;
        let mut text = *b"0000-00-00T00:00:00.000000Z";
        for (end, number) in [
            (4, year),
            (7, month),
            (10, day),
            (13, of_day / 3600),
            (16, of_day / 60 % 60),
            (19, of_day % 60),
            (26, micros % MICROS_PER_S),
        ] {
            write_digits(&mut text[..end], number);
        }
        out.extend_from_slice(&text);
    }

    /// Reads RFC 3339 with any offset; digits beyond microseconds are cut off. `None` for anything
    /// else, and for moments before 1970.
    pub fn parse(text: &str) -> Option<Timestamp> {
        let (date, rest) = text.split_at_checked(10)?;
        let (clock, rest) = rest.split_at_checked(9)?;
        let separator = *clock.as_bytes().first()?;
        if !matches!(separator, b'T' | b't' | b' ') {
            return None;
        }
        let [year, month, day] = numbers(date, b"dddd-dd-dd")?;
        let [hour, minute, second] = numbers(&clock[1..], b"dd:dd:dd")?;
        // A leap second is the last one of its minute to us.
        if hour > 23 || minute > 59 || second > 60 {
            return None;
        }
        let (micros, zone) = fraction_of(rest)?;
        let of_day = hour * 3600 + minute * 60 + second.min(59);
        let seconds = days_of(year, month, day)? * SECONDS_PER_DAY as i64 + of_day as i64;
        let seconds = u64::try_from(seconds.checked_sub(offset_s(zone)?)?).ok()?;
        Some(Timestamp(seconds * MICROS_PER_S + micros))
    }

    /// Whole seconds since 1970.
    pub fn seconds(&self) -> u64 {
        self.0 / MICROS_PER_S
    }

    /// The moment that many seconds after 1970; the last one there is if that is too many.
    pub fn from_seconds(seconds: u64) -> Timestamp {
        Timestamp(seconds.saturating_mul(MICROS_PER_S))
    }
}

/// Overwrites the last bytes of a text with the digits of a number.
fn write_digits(text: &mut [u8], mut number: u64) {
    for byte in text.iter_mut().rev() {
        if number == 0 {
            return;
        }
        *byte = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

/// The three numbers of a text that has digits where the shape has `d`, and is like it elsewhere.
fn numbers(text: &str, shape: &[u8]) -> Option<[u64; 3]> {
    let mut numbers = [0; 3];
    let mut index = 0;
    if text.len() != shape.len() {
        return None;
    }
    for (&byte, &expected) in text.as_bytes().iter().zip(shape) {
        if expected == b'd' {
            let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
            numbers[index] = numbers[index] * 10 + digit;
        } else if byte == expected {
            index += 1;
        } else {
            return None;
        }
    }
    Some(numbers)
}

/// Microseconds of `.422389501Z`, and what follows the digits.
fn fraction_of(text: &str) -> Option<(u64, &str)> {
    let Some(digits) = text.strip_prefix('.') else {
        return Some((0, text));
    };
    let count = digits.bytes().take_while(u8::is_ascii_digit).count();
    if count == 0 {
        return None;
    }
    let micros = digits
        .bytes()
        .take(count)
        .chain(std::iter::repeat(b'0'))
        .take(6)
        .fold(0, |micros, byte| micros * 10 + u64::from(byte - b'0'));
    Some((micros, &digits[count..]))
}

fn offset_s(zone: &str) -> Option<i64> {
    if zone.eq_ignore_ascii_case("z") {
        return Some(0);
    }
    let sign = match zone.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let [hours, minutes, _] = numbers(zone.get(1..)?, b"dd:dd")?;
    (hours <= 23 && minutes <= 59).then_some(sign * (hours * 3600 + minutes * 60) as i64)
}

/// Year, month and day of a day counted from 1970-01-01. The calendar repeats every 400 years of
/// 146,097 days; years here begin in March, so that the leap day is the last of its year.
fn date_of(days: u64) -> (u64, u64, u64) {
    // 719,468 days lie between 0000-03-01 and 1970-01-01.
    let days = days + 719_468;
    let (cycle, day_of_cycle) = (days / 146_097, days % 146_097);
    let year_of_cycle =
        (day_of_cycle - day_of_cycle / 1460 + day_of_cycle / 36_524 - day_of_cycle / 146_096) / 365;
    let day_of_year =
        day_of_cycle - (365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 {
        march_month + 3
    } else {
        march_month - 9
    };
    let year = cycle * 400 + year_of_cycle + u64::from(month <= 2);
    (year, month, day)
}

/// Days from 1970-01-01 to a date, negative before it; `None` if there is no such date.
fn days_of(year: u64, month: u64, day: u64) -> Option<i64> {
    let is_leap = year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400);
    let length = match month {
        2 => 28 + u64::from(is_leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if !(1..=length).contains(&day) {
        return None;
    }
    let (year, month) = (year as i64, month as i64);
    let march_year = year - i64::from(month <= 2);
    let (cycle, year_of_cycle) = (march_year.div_euclid(400), march_year.rem_euclid(400));
    let march_month = (month + 9) % 12;
    let day_of_year = (153 * march_month + 2) / 5 + day as i64 - 1;
    let day_of_cycle = year_of_cycle * 365 + year_of_cycle / 4 - year_of_cycle / 100 + day_of_year;
    Some(cycle * 146_097 + day_of_cycle - 719_468)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_written_with_microseconds() {
        for (micros, text) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (951_782_400_000_001, "2000-02-29T00:00:00.000001Z"),
            (1_795_311_401_422_389, "2026-11-22T01:36:41.422389Z"),
            (4_107_542_399_000_000, "2100-02-28T23:59:59.000000Z"),
            (4_107_542_400_000_000, "2100-03-01T00:00:00.000000Z"),
            (RFC3339_MAX.0, "9999-12-31T23:59:59.999999Z"),
        ] {
            assert_eq!(Timestamp(micros).rfc3339(), text);
            assert_eq!(Timestamp::parse(text), Some(Timestamp(micros)));
        }
        assert_eq!(Timestamp(u64::MAX).rfc3339(), RFC3339_MAX.rfc3339());
    }

    #[test]
    fn every_day_of_a_cycle_is_read_back() {
        for day in (0..146_097 + 3000).step_by(1) {
            let moment = Timestamp::from_seconds(day * SECONDS_PER_DAY + day % 86_400);
            assert_eq!(Timestamp::parse(&moment.rfc3339()), Some(moment));
        }
    }

    #[test]
    fn offsets_and_short_forms_are_understood() {
        let expected = Some(Timestamp::from_seconds(1_795_311_401));
        for text in [
            "2026-11-22T01:36:41Z",
            "2026-11-22t01:36:41z",
            "2026-11-22 01:36:41Z",
            "2026-11-22T03:06:41+01:30",
            "2026-11-21T19:36:41.0000000009-06:00",
        ] {
            assert_eq!(Timestamp::parse(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_moment_is_none() {
        for text in [
            "",
            "2026",
            "2026-11-22",
            "2026-11-22T01:36:41",
            "2026-11-22T01:36:41.Z",
            "2026-11-22T24:00:00Z",
            "2026-11-22T01:60:00Z",
            "2026-02-29T01:36:41Z",
            "2026-13-01T01:36:41Z",
            "2026-00-01T01:36:41Z",
            "2026-01-00T01:36:41Z",
            "1969-12-31T23:59:59Z",
            "1970-01-01T00:00:00+00:01",
            "2026-11-22T01:36:41+0100",
            "2026-11-22T01:36:41Zé",
            "2026-11-2éT01:36:41Z",
        ] {
            assert_eq!(Timestamp::parse(text), None, "{text}");
        }
    }
}
