//! Ctrl-C: once to stop in good order, twice to end at once.

use std::sync::{Arc, atomic::AtomicBool};

use signal_hook::{
    consts::{SIGINT, SIGTERM},
    flag,
};

use crate::error::Exit;

/// Gives the flag that becomes true when a run is to stop; called when a run begins.
pub(crate) type StopFlag = fn() -> Arc<AtomicBool>;

/// A flag that the first interrupt or request to end sets; the next one ends the process.
///
/// Where a handler cannot be installed, the signal does what it does to any process, which a store survives.
pub(crate) fn on_signals() -> Arc<AtomicBool> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // In this order: the first signal finds the flag unset and sets it.
        let _ = flag::register_conditional_shutdown(signal, Exit::Interrupted as i32, stop.clone());
        let _ = flag::register(signal, stop.clone());
    }
    stop
}
