//! What the fixture says over the wire.
