//! The wire's promises: released bytes decode for ever, messages survive any cutting, hostile bytes do no harm.

mod alloc;
mod fuzz_corpus;
mod golden;
mod hostile;
mod round_trip;
mod said;
mod samples;
mod strategies;
