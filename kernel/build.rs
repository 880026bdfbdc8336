//! Links the program as a kernel: no start files, no libc, at the addresses of `link.ld`. All of it
//! is said here, so that no setting of cargo's reaches beyond this folder.

fn main() {
    let folder = std::env::var("CARGO_MANIFEST_DIR").expect("cargo says where the sources are");
    for source in ["link.ld", "src/boot.s", "src/traps.s", "src/memory_functions.s"] {
        println!("cargo:rerun-if-changed={source}");
    }
    let target = std::env::var("TARGET").expect("cargo says for what it builds");
    let common = ["--build-id=none", "-zmax-page-size=0x1000", "--gc-sections"];
    if target.ends_with("-none") {
        for argument in common.into_iter().chain(["--no-pie", "-static"]) {
            println!("cargo:rustc-link-arg-bins={argument}");
        }
        println!("cargo:rustc-link-arg-bins=-T{folder}/link.ld");
        return;
    }
    // The host's target links through its C compiler.
    for argument in ["-nostartfiles", "-nostdlib", "-static", "-no-pie"] {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
    for argument in common {
        println!("cargo:rustc-link-arg-bins=-Wl,{argument}");
    }
    println!("cargo:rustc-link-arg-bins=-Wl,-T,{folder}/link.ld");
}
