//! Containment: what a plugin that misbehaves costs, and who is named for it.

mod failure;
