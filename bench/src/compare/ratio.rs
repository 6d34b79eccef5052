//! What pairs of runs show about two sides. Pure.

use serde::Serialize;

/// The ratios B/A of all pairs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Ratios {
    /// Half of the pairs are not above it.
    pub(super) median: f64,
    /// The lowest.
    pub(super) min: f64,
    /// The highest.
    pub(super) max: f64,
    /// The ratio of each pair, in the order of time.
    pub(super) pairs: Vec<f64>,
}

/// The result of all pairs together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// B was above A in every pair.
    Higher,
    /// B was below A in every pair.
    Lower,
    /// Pairs disagree: no difference is shown.
    Mixed,
}

/// In how many figures (one in the returned number) two equal sides agree by chance in every pair on which is
/// higher.
pub(super) fn alike_one_in(pairs: usize) -> f64 {
    2_f64.powi(i32::try_from(pairs).unwrap_or(i32::MAX).saturating_sub(1))
}

impl Ratios {
    /// The ratios of pairs `(a, b)`. Pairs without a value, or with an A of zero, are left out; `None` when
    /// all are.
    pub(super) fn of(pairs: impl IntoIterator<Item = (Option<f64>, Option<f64>)>) -> Option<Self> {
        let ratio = |(a, b): (Option<f64>, Option<f64>)| Some(b? / a?).filter(|ratio| ratio.is_finite());
        let pairs: Vec<f64> = pairs.into_iter().filter_map(ratio).collect();
        let mut sorted = pairs.clone();
        sorted.sort_by(f64::total_cmp);
        Some(Self { median: median(&sorted)?, min: *sorted.first()?, max: *sorted.last()?, pairs })
    }

    pub(super) fn verdict(&self) -> Verdict {
        match () {
            () if self.min > 1.0 => Verdict::Higher,
            () if self.max < 1.0 => Verdict::Lower,
            () => Verdict::Mixed,
        }
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Higher => "B higher in each",
            Self::Lower => "B lower in each",
            Self::Mixed => "no difference shown",
        })
    }
}

/// The middle value; for an even number of values, the mean of the two in the middle.
pub(super) fn median(sorted: &[f64]) -> Option<f64> {
    let middle = sorted.len() / 2;
    let upper = *sorted.get(middle)?;
    if sorted.len() % 2 == 1 { Some(upper) } else { Some((sorted.get(middle - 1)? + upper) / 2.0) }
}

#[cfg(test)]
mod tests {
    use super::{Ratios, Verdict, alike_one_in, median};

    fn ratios(pairs: &[(f64, f64)]) -> Ratios {
        Ratios::of(pairs.iter().map(|(a, b)| (Some(*a), Some(*b)))).unwrap()
    }

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0]), Some(3.0));
        assert_eq!(median(&[1.0, 2.0, 4.0, 9.0]), Some(3.0));
    }

    #[test]
    fn a_ratio_is_of_a_pair_and_never_of_medians() {
        let ratios = ratios(&[(100.0, 150.0), (10.0, 20.0), (50.0, 50.0)]);
        assert_eq!(ratios.pairs, [1.5, 2.0, 1.0]);
        assert_eq!((ratios.median, ratios.min, ratios.max), (1.5, 1.0, 2.0));
    }

    #[test]
    fn a_few_pairs_agree_by_chance() {
        assert_eq!([1, 2, 5, 8].map(alike_one_in), [1.0, 2.0, 16.0, 128.0]);
    }

    #[test]
    fn a_verdict_is_what_every_pair_shows() {
        for (pairs, verdict) in [
            (&[(1.0, 1.1), (2.0, 2.1)], Verdict::Higher),
            (&[(1.0, 0.9), (2.0, 1.9)], Verdict::Lower),
            (&[(1.0, 1.1), (2.0, 1.9)], Verdict::Mixed),
            (&[(1.0, 1.0), (2.0, 2.1)], Verdict::Mixed),
        ] {
            assert_eq!(ratios(pairs).verdict(), verdict, "{pairs:?}");
        }
    }

    #[test]
    fn unknown_values_are_left_out() {
        let pairs = [(None, Some(1.0)), (Some(0.0), Some(1.0)), (Some(2.0), Some(1.0))];
        assert_eq!(Ratios::of(pairs).map(|ratios| ratios.pairs), Some(vec![0.5]));
        assert_eq!(Ratios::of([(Some(1.0), None)]), None);
    }
}
