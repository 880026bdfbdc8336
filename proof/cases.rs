//! Functions whose compiled form has the instructions that the page word's code has, or may have
//! after a change: the translator is compared with running them.

#![allow(missing_docs)]

macro_rules! cases {
    ($($name:ident($($arg:ident),*) = $value:expr;)*) => {
        $(#[unsafe(no_mangle)]
        pub extern "C" fn $name($($arg: u64),*) -> u64 {
            $value
        })*
    };
}

const fn collatz(x: u64) -> u64 {
    match x & 7 {
        0 => x >> 3,
        1 | 4 => x ^ 0x5555,
        2 => x.wrapping_mul(3),
        5 => x.wrapping_add(7),
        6 => x | 1 << 40,
        _ => !x,
    }
}

cases! {
    case_and(x, y) = x & y;
    case_or(x, y) = x | y;
    case_xor(x, y) = x ^ y;
    case_add(x, y) = x.wrapping_add(y);
    case_sub(x, y) = x.wrapping_sub(y);
    case_mul(x, y) = x.wrapping_mul(y);
    case_udiv(x, y) = x / (y | 1);
    case_urem(x, y) = x % (y | 1);
    case_shl(x, y) = x << (y & 63);
    case_lshr(x, y) = x >> (y & 63);
    case_ashr(x, y) = ((x as i64) >> (y & 63)) as u64;
    case_zext(x) = u64::from(x as u8);
    case_sext(x, y) = i64::from((x as i32).min(y as i32)) as u64;
    case_trunc(x, y) = u64::from((x as u16).wrapping_mul(y as u16));
    case_eq(x, y) = u64::from(x == y);
    case_ne(x, y) = u64::from(x != y);
    case_ult(x, y) = u64::from(x < y);
    case_ule(x, y) = u64::from(x <= y);
    case_ugt(x, y) = u64::from(x > y);
    case_uge(x, y) = u64::from(x >= y);
    case_slt(x, y) = u64::from((x as i64) < y as i64);
    case_sle(x, y) = u64::from((x as i64) <= y as i64);
    case_sgt(x, y) = u64::from((x as i64) > y as i64);
    case_sge(x, y) = u64::from((x as i64) >= y as i64);
    case_select(x, y) = if x & 1 == 0 { y } else { x.wrapping_add(1) };
    case_umin(x, y) = x.min(y);
    case_umax(x, y) = x.max(y);
    case_smin(x, y) = (x as i64).min(y as i64) as u64;
    case_smax(x, y) = (x as i64).max(y as i64) as u64;
    case_uadd(x, y) = x.saturating_add(y);
    case_usub(x, y) = x.saturating_sub(y);
    case_narrow(x, y) = u64::from((x as u8).saturating_add(y as u8).min(200) >> 3);
    case_switch(x) = collatz(x);
    case_switches(x, y) = collatz(collatz(x).wrapping_add(y));
    case_branches(x, y) = if x > 9 { if y == 3 { collatz(x) } else { y / 8 } } else { x << 60 };
}
