//! Names models see. Providers accept 1 to 64 characters of `[A-Za-z0-9_-]` (the rule of the function
//! calling APIs); a full name that does not fit gets a stable suffix from its hash, so that two long
//! names never become one.

use awooop_core::json::{hex, sha256};

const LONGEST: usize = 64;
const SUFFIX: usize = 9;

/// The name a model sees for a tool's full name; the same one every time.
pub fn model_facing(full: &str) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if full.len() <= LONGEST && full.chars().all(fits) {
        return full.to_owned();
    }
    let head: String = full.chars().map(|c| if fits(c) { c } else { '_' }).take(LONGEST - SUFFIX).collect();
    format!("{head}_{}", &hex(&sha256(full.as_bytes()))[..SUFFIX - 1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_fits_stays_and_any_other_becomes_a_stable_one_that_fits() {
        assert_eq!(model_facing("shop__sales_summary"), "shop__sales_summary");
        let long = format!("shop__{}", "a".repeat(80));
        assert_eq!(model_facing(&long).len(), 64);
        assert_eq!(model_facing(&long), model_facing(&long));
        assert_ne!(model_facing(&long), model_facing(&format!("{long}b")));
        assert_ne!(model_facing("shop__a.b"), model_facing("shop__a_b"));
        assert!(model_facing("shop__銷售").chars().all(|c| c.is_ascii_alphanumeric() || c == '_'));
    }
}
