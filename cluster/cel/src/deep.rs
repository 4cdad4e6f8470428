//! Room for deep recursion: expressions may nest as upstream lets them, whoever's stack they run on.

/// Enough for the deepest expression there can be, with frames of an unoptimised build.
const STACK: usize = 256 << 20;

/// Runs `work`, on a stack of its own if it goes deep. Memory is only taken as it is touched.
pub(crate) fn with_room<R: Send>(deep: bool, work: impl FnOnce() -> R + Send) -> R {
    if !deep {
        return work();
    }
    std::thread::scope(|scope| {
        let builder = std::thread::Builder::new()
            .name("cel-deep".to_owned())
            .stack_size(STACK);
        let worker = builder.spawn_scoped(scope, work);
        let joined = worker.map(std::thread::ScopedJoinHandle::join);
        match joined {
            Ok(Ok(result)) => result,
            Ok(Err(panic)) => std::panic::resume_unwind(panic),
            // The same end that running out of stack would have, told.
            Err(e) => panic!("no thread for a deep expression: {e}"),
        }
    })
}

/// Whether parsing the text may go deep, by its brackets and its operators.
pub(crate) fn may_be_deep(source: &str) -> bool {
    let (mut open, mut nested, mut chained) = (0_u32, 0_u32, 0_u32);
    for byte in source.bytes() {
        match byte {
            b'(' | b'[' | b'{' => {
                open += 1;
                nested = nested.max(open);
            }
            b')' | b']' | b'}' => open = open.saturating_sub(1),
            b'+' | b'-' | b'*' | b'/' | b'%' | b'<' | b'>' | b'=' | b'.' | b'?' => chained += 1,
            _ => {}
        }
    }
    nested > 16 || chained > 100
}

/// Sums of depths, by kind of rule, that a usual stack has room for.
pub(crate) const USUAL_DEPTH: u32 = 100;
