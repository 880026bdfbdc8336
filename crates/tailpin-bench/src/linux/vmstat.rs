//! What the kernel counts for the whole machine.

/// Free pages of 4 KiB.
pub(crate) fn free_pages() -> Result<u64, String> {
    let text = std::fs::read_to_string("/proc/vmstat").map_err(|error| format!("/proc/vmstat: {error}"))?;
    let value = text.lines().find_map(|line| line.strip_prefix("nr_free_pages "));
    value
        .and_then(|value| value.trim().parse().ok())
        .ok_or_else(|| "/proc/vmstat has no nr_free_pages".into())
}
