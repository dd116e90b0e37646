//! A typed model of a Skein cluster, rendered into HAProxy's configuration; and a client for its runtime API.
