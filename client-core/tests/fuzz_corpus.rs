//! The fuzz targets of texts, run over their committed corpus: no nightly compiler needed.

use std::panic::catch_unwind;
use std::path::Path;

#[path = "../../fuzz/src/text.rs"]
#[allow(unreachable_pub, reason = "the fuzz crate exports it")]
mod targets;

#[test]
fn every_committed_input_passes_its_target() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz");
    let manifest = std::fs::read_to_string(fuzz.join("Cargo.toml")).expect("the fuzz crate has a manifest");
    for (name, target) in targets::TARGETS {
        assert!(fuzz.join(format!("fuzz_targets/{name}.rs")).exists(), "{name} has no program");
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name} is not in the manifest");
        let corpus = std::fs::read_dir(fuzz.join("corpus").join(name)).expect("there is a corpus");
        let mut inputs = 0;
        for file in corpus {
            let path = file.expect("the corpus can be read").path();
            let input = std::fs::read(&path).expect("an input can be read");
            assert!(catch_unwind(|| target(&input)).is_ok(), "{} fails its target", path.display());
            inputs += 1;
        }
        assert!(inputs > 0, "{name} has no corpus");
    }
}
