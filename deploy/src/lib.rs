//! Starts, watches and stops a Skein cluster of real processes on one machine; also the kit of the tests.
