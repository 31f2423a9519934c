//! Functions of single values.

/// Logistic function `1 / (1 + exp(-x))`, without overflow for any `x`.
///
/// # Examples
/// ```
/// assert_eq!(kernels::sigmoid(0.0), 0.5);
/// assert_eq!(kernels::sigmoid(-200.0), 0.0);
/// assert_eq!(kernels::sigmoid(200.0), 1.0);
/// ```
pub fn sigmoid(x: f32) -> f32 {
    let small = (-x.abs()).exp();
    let above = 1.0 / (1.0 + small);
    if x >= 0.0 { above } else { small * above }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_halves_add_up_to_one() {
        for x in [0.0_f32, 0.3, 2.0, 10.0, 30.0, 90.0] {
            assert!((sigmoid(x) + sigmoid(-x) - 1.0).abs() <= f32::EPSILON, "{x}");
        }
    }

    #[test]
    fn small_values_keep_their_digits() {
        assert!((sigmoid(-50.0) / (-50.0_f32).exp() - 1.0).abs() < 1e-6);
        assert!(sigmoid(f32::NAN).is_nan());
    }
}
