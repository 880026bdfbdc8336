//! Building the kernel's image, from the sources beside this command's own.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Why there is no image.
pub(super) enum NoImage {
    /// It can't be built on this machine.
    Impossible(String),
    /// It was tried, and failed.
    Failed(String),
}

/// Builds the image; where it is then.
pub(super) fn build() -> Result<PathBuf, NoImage> {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        return Err(NoImage::Impossible("the image is built on x86-64 Linux only".to_owned()));
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../kernel");
    let manifest = folder.join("Cargo.toml");
    if !manifest.exists() {
        let place = folder.display();
        return Err(NoImage::Impossible(format!(
            "the kernel's sources are not at {place}; --image names an image"
        )));
    }
    let target = folder.join("target");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .args(["build", "--release", "--locked", "--quiet", "--manifest-path"])
        .arg(&manifest)
        .arg("--target-dir")
        .arg(&target)
        // What is set for programs of this system is not meant for a kernel.
        .env_remove("CARGO_BUILD_TARGET")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("RUSTFLAGS")
        .current_dir(&folder)
        .stdin(Stdio::null())
        .status();
    match built {
        Ok(status) if status.success() => Ok(target.join("release/tailpin-kernel-image")),
        Ok(status) => Err(NoImage::Failed(format!("the image can't be built: cargo ended with {status}"))),
        Err(error) => Err(NoImage::Failed(format!("cargo can't be run: {error}"))),
    }
}

/// Bytes of an image that can be read.
///
/// # Errors
/// What is against it.
pub(super) fn bytes(image: &Path) -> io::Result<u64> {
    let kind = std::fs::metadata(image)?;
    if kind.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    // To open it would be to wait for its writer.
    #[cfg(unix)]
    if std::os::unix::fs::FileTypeExt::is_fifo(&kind.file_type()) {
        return Err(io::Error::other("it is a pipe"));
    }
    std::fs::File::open(image)?;
    Ok(kind.len())
}
