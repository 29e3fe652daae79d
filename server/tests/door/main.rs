//! The users' door of a coordinator: a whole one, in this process, over the
//! embedded broker and the memory store.

mod answers;
mod appended;
mod harness;
mod process;
mod stream;
