#![no_main]

libfuzzer_sys::fuzz_target!(init: akidb_tests::fuzz::start(), |data: &[u8]| {
    akidb_tests::fuzz::run("bucket_manifest", data);
});
