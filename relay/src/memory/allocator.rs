//! What the allocator says of itself.

use tikv_jemalloc_ctl::{epoch, stats};

/// Bytes of the process's heap, as jemalloc counts them. Each includes the one before it.
#[derive(Debug, Clone, Copy)]
pub struct AllocatorBytes {
    /// What the program asked for and has not freed.
    pub allocated: usize,
    /// The pages that hold it.
    pub active: usize,
    /// The pages that the process holds, with those that go back to the system within ten seconds.
    pub resident: usize,
}

impl AllocatorBytes {
    /// Reads the counters as of now; `None` where the program runs with another allocator.
    #[must_use]
    pub fn read() -> Option<Self> {
        // The counters are copies, made anew at each advance.
        epoch::advance().ok()?;
        Some(Self {
            allocated: stats::allocated::read().ok()?,
            active: stats::active::read().ok()?,
            resident: stats::resident::read().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_counted_and_goes_back() {
        const BYTES: usize = 64 << 20;
        let allocated = || AllocatorBytes::read().unwrap().allocated;
        let before = allocated();
        let held = std::hint::black_box(vec![1_u8; BYTES]);
        // Other tests allocate at the same time, much less than this.
        let during = allocated();
        assert!(during >= before + BYTES / 2, "{before} before, {during} while {BYTES} are held");
        drop(held);
        assert!(allocated() < during - BYTES / 2);
    }
}
