//! What a Node addon needs of the linker; also that it is never unloaded, since its runtime outlives every environment.

fn main() {
    napi_build::setup();
}
