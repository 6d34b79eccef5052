//! Numbers as a machine writes them, read strictly: digits only, without sign or space.

/// A hexadecimal number in lower case, of at most 32 digits; none for anything else.
#[must_use]
pub fn lower_hex(digits: &[u8]) -> Option<u128> {
    if digits.len() > 32 {
        return None;
    }
    digits.iter().try_fold(0, |value, byte| {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            _ => return None,
        };
        Some(value << 4 | u128::from(digit))
    })
}

/// A decimal number; none for anything but digits, or beyond 64 bits.
#[must_use]
pub fn decimal(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0_u64, |value, byte| {
        let digit = byte.checked_sub(b'0').filter(|digit| *digit < 10)?;
        value.checked_mul(10)?.checked_add(digit.into())
    })
}

#[cfg(test)]
mod tests {
    use super::{decimal, lower_hex};

    #[test]
    fn nothing_but_digits_is_a_number() {
        assert_eq!(lower_hex(b"00ff"), Some(255));
        assert_eq!(lower_hex(&[b'f'; 32]), Some(u128::MAX));
        assert_eq!((decimal(b"007"), decimal(b"18446744073709551615")), (Some(7), Some(u64::MAX)));
        for text in ["F", "+1", " 1", "1 ", "0x1", "g", "-1"] {
            assert_eq!((lower_hex(text.as_bytes()), decimal(text.as_bytes())), (None, None), "{text}");
        }
        assert_eq!((lower_hex(&[b'0'; 33]), decimal(b"18446744073709551616")), (None, None));
    }
}
