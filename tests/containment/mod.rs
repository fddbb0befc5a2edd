//! Containment: what a plugin that misbehaves costs, and who is named for it.

mod blocked;
mod crash;
mod crashing;
mod failure;
mod figures;
mod leaking;
mod supervised;
