//! Programs that others wrote, over TLS.
