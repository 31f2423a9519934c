//! Maps are f32 in training and f64 in tests against finite differences; all arithmetic between is f64.

/// A stored number of a map.
pub trait Real: Copy + Send + Sync + private::Sealed {
    /// The value as f64.
    fn wide(self) -> f64;
    /// Rounds `value` to the stored type.
    fn narrow(value: f64) -> Self;
}

impl Real for f32 {
    fn wide(self) -> f64 {
        f64::from(self)
    }
    fn narrow(value: f64) -> Self {
        value as f32
    }
}

impl Real for f64 {
    fn wide(self) -> f64 {
        self
    }
    fn narrow(value: f64) -> Self {
        value
    }
}

mod private {
    /// Keeps the list of implementors closed.
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
}

/// `1 / (1 + e^(−x))` without overflow.
pub(crate) fn sigmoid(x: f64) -> f64 {
    let small = (-x.abs()).exp();
    if x >= 0.0 { 1.0 / (1.0 + small) } else { small / (1.0 + small) }
}

#[cfg(test)]
mod tests {
    use super::sigmoid;

    #[test]
    fn sigmoid_is_finite_and_symmetric() {
        for x in [0.0, 0.3, 5.0, 40.0, 800.0] {
            assert!((sigmoid(x) + sigmoid(-x) - 1.0).abs() < 1e-15, "{x}");
        }
        assert_eq!((sigmoid(-800.0), sigmoid(800.0)), (0.0, 1.0));
    }
}
