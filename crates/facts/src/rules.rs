//! Rules of stored numbers that their types do not say.

use saldo_domain::money::check_amount;

use crate::{DecodeError, wire::Decoded};

/// An amount above zero, in minor units.
pub fn positive(minor: i64) -> Decoded<i64> {
    check_amount(minor).map_err(|error| DecodeError::malformed("amount", error)).map(|()| minor)
}

/// An amount of zero or above, in minor units.
pub fn not_negative(minor: i64) -> Decoded<i64> {
    if minor == 0 { Ok(0) } else { positive(minor) }
}

/// The number of an instalment: from 1, and no larger than databases keep.
pub fn instalment(number: u32) -> Decoded<u32> {
    if (1..=i32::MAX as u32).contains(&number) { Ok(number) } else { Err(DecodeError::malformed("instalment", number)) }
}

/// The number of a reminder: from 1, and no larger than databases keep.
pub fn reminder(number: u64) -> Decoded<u64> {
    if (1..=i64::MAX as u64).contains(&number) { Ok(number) } else { Err(DecodeError::malformed("reminder", number)) }
}
