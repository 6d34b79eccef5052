//! `numeric` between its binary form (digits to the base 10,000, as in Postgres's `numeric_send`)
//! and exact decimal text.

const POSITIVE: u16 = 0x0000;
const NEGATIVE: u16 = 0x4000;
const NAN: u16 = 0xC000;
const INFINITY: u16 = 0xD000;
const MINUS_INFINITY: u16 = 0xF000;
/// Decimal digits after the point, at the most.
const SCALE_MAX: usize = 0x3FFF;
/// Decimal digits of one digit to the base 10,000.
const GROUP: usize = 4;

/// Appends the binary form. None: the text is not a decimal number that Postgres can hold.
pub(super) fn write(text: &str, out: &mut Vec<u8>) -> Option<()> {
    let sign = match text {
        "NaN" => NAN,
        "Infinity" => INFINITY,
        "-Infinity" => MINUS_INFINITY,
        _ => return write_finite(text, out),
    };
    header(out, 0, 0, sign, 0);
    Some(())
}

fn write_finite(text: &str, out: &mut Vec<u8>) -> Option<()> {
    let (sign, digits) = match text.as_bytes().first()? {
        b'-' => (NEGATIVE, &text[1..]),
        b'+' => (POSITIVE, &text[1..]),
        _ => (POSITIVE, text),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.len() + fraction.len() == 0 || !whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit())
    {
        return None;
    }
    let scale = u16::try_from(fraction.len()).ok().filter(|scale| usize::from(*scale) <= SCALE_MAX)?;
    let whole = whole.trim_start_matches('0').as_bytes();

    let start = out.len();
    header(out, 0, 0, sign, scale);
    // Groups are counted from the point: the first one of the whole part may be short.
    let (head, groups) = whole.split_at(whole.len() % GROUP);
    let mut weight = i32::try_from(whole.len().div_ceil(GROUP)).ok()? - 1;
    let decimals = fraction.as_bytes().chunks(GROUP);
    let whole = (!head.is_empty()).then_some(head).into_iter().chain(groups.chunks(GROUP)).map(value);
    let all = whole.chain(decimals.map(|group| value(group) * 10_u16.pow((GROUP - group.len()) as u32)));
    let (mut written, mut kept) = (0_u16, 0_u16);
    for group in all {
        if written == 0 && group == 0 {
            weight -= 1;
            continue;
        }
        out.extend_from_slice(&group.to_be_bytes());
        written = written.checked_add(1)?;
        if group != 0 {
            kept = written;
        }
    }
    out.truncate(start + 8 + usize::from(kept) * 2);
    let (weight, sign) = if kept == 0 { (0, POSITIVE) } else { (i16::try_from(weight).ok()?, sign) };
    out[start..start + 2].copy_from_slice(&kept.to_be_bytes());
    out[start + 2..start + 4].copy_from_slice(&weight.to_be_bytes());
    out[start + 4..start + 6].copy_from_slice(&sign.to_be_bytes());
    Some(())
}

fn value(group: &[u8]) -> u16 {
    group.iter().fold(0, |sum, digit| sum * 10 + u16::from(digit - b'0'))
}

fn header(out: &mut Vec<u8>, digits: u16, weight: i16, sign: u16, scale: u16) {
    for part in [digits, weight.cast_unsigned(), sign, scale] {
        out.extend_from_slice(&part.to_be_bytes());
    }
}

/// The decimal text of a binary form. None: it is none.
pub(super) fn read(bytes: &[u8]) -> Option<String> {
    let (head, body) = bytes.split_at_checked(8)?;
    let part = |at: usize| u16::from_be_bytes([head[at], head[at + 1]]);
    let (count, weight, sign, scale) =
        (usize::from(part(0)), part(2).cast_signed(), part(4), usize::from(part(6)));
    match sign {
        NAN => return Some("NaN".to_owned()),
        INFINITY => return Some("Infinity".to_owned()),
        MINUS_INFINITY => return Some("-Infinity".to_owned()),
        _ if body.len() != count * 2 => return None,
        _ => {}
    }
    let digits: Vec<u16> = body.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect();
    let group = |place: i32| {
        let at = i32::from(weight) - place;
        usize::try_from(at).ok().and_then(|at| digits.get(at)).copied().unwrap_or(0)
    };

    let mut text = String::with_capacity(digits.len() * GROUP + scale + 3);
    if sign == NEGATIVE {
        text.push('-');
    }
    if weight < 0 {
        text.push('0');
    } else {
        text.push_str(&group(weight.into()).to_string());
        for place in (0..i32::from(weight)).rev() {
            push_group(&mut text, group(place));
        }
    }
    if scale > 0 {
        text.push('.');
        let point = text.len();
        let mut place = -1;
        while text.len() < point + scale {
            push_group(&mut text, group(place));
            place -= 1;
        }
        text.truncate(point + scale);
    }
    Some(text)
}

fn push_group(text: &mut String, group: u16) {
    for unit in [1000, 100, 10, 1] {
        text.push(char::from(b'0' + u8::try_from(group / unit % 10).unwrap_or(0)));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::{read, write};

    #[test]
    fn decimal_text_survives() {
        for text in [
            "0",
            "0.00",
            "1",
            "-1",
            "10000",
            "12345678",
            "0.1",
            "0.0001",
            "0.00001",
            "-0.000012345",
            "100000000.00000001",
            "9999.9999",
            "123456789012345678901234567890.098765432109876543210",
            "1000000000000",
            "NaN",
            "Infinity",
            "-Infinity",
        ] {
            let mut bytes = Vec::new();
            write(text, &mut bytes).unwrap();
            assert_eq!(read(&bytes).as_deref(), Some(text), "{bytes:?}");
        }
    }

    #[test]
    fn other_spellings_of_a_number() {
        for (text, same) in [("+007.50", "7.50"), (".5", "0.5"), ("5.", "5"), ("-0", "0"), ("-0.0", "0.0")] {
            let mut bytes = Vec::new();
            write(text, &mut bytes).unwrap();
            assert_eq!(read(&bytes).as_deref(), Some(same));
        }
    }

    #[test]
    fn the_form_that_postgres_sends() {
        let mut bytes = Vec::new();
        write("12345.678", &mut bytes).unwrap();
        assert_eq!(bytes, [0, 3, 0, 1, 0, 0, 0, 3, 0, 1, 0x09, 0x29, 0x1a, 0x7c]);
    }

    #[test]
    fn what_is_no_number() {
        for text in ["", "-", ".", "1e3", "1,5", " 1", "--1", "٣", "nan"] {
            assert!(write(text, &mut Vec::new()).is_none(), "{text}");
        }
        assert!(read(&[0, 2, 0, 0, 0, 0, 0, 0, 0, 1]).is_none());
        assert!(read(&[0]).is_none());
    }
}
