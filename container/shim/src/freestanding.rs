//! What a C library would bring: the entry point, an allocator, the memory functions that compiled code
//! calls, and an end for panics. The program has one thread.

use alloc::{string::String, vec::Vec};
use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use core::ffi::{CStr, c_char};
use core::ptr::{self, NonNull, null_mut};
use strata_sys::{process, syscall};

#[cfg(target_arch = "x86_64")]
core::arch::global_asm!(
    ".globl _start",
    "_start:",
    "xor ebp, ebp",
    "mov rdi, rsp",
    "and rsp, -16",
    "call {enter}",
    "ud2",
    enter = sym enter,
);

#[cfg(target_arch = "aarch64")]
core::arch::global_asm!(
    ".globl _start",
    "_start:",
    "mov x29, xzr",
    "mov x30, xzr",
    "mov x0, sp",
    "bl {enter}",
    "brk 1",
    enter = sym enter,
);

/// System V ABI, "initial process stack": argc, argv, null, environment, null.
unsafe extern "C" fn enter(stack: *const usize) -> ! {
    // SAFETY: the kernel lays the stack out so.
    let (arguments, environment) = unsafe {
        let count = *stack;
        let arguments = stack.add(1).cast::<*const c_char>();
        (strings(arguments), strings(arguments.add(count + 1)))
    };
    process::exit(crate::program::main(&arguments, &environment))
}

/// # Safety
/// `list` is a null-terminated list of C strings.
unsafe fn strings(mut list: *const *const c_char) -> Vec<String> {
    let mut strings = Vec::new();
    // SAFETY: the caller's promise.
    unsafe {
        while !(*list).is_null() {
            strings.push(String::from_utf8_lossy(CStr::from_ptr(*list).to_bytes()).into_owned());
            list = list.add(1);
        }
    }
    strings
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    let text = alloc::format!("strata-runtime: {info}\n");
    let _ = rustix::io::write(strata_sys::stream::error(), text.as_bytes());
    process::exit(70)
}

// The precompiled `alloc` was made for unwinding; with panic=abort these are referred to and never called.
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Resume() -> ! {
    process::exit(70)
}

#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() -> ! {
    process::exit(70)
}

/// Blocks of 16 bytes to 32 KiB in powers of two from free lists; larger ones from the kernel.
struct Blocks(UnsafeCell<State>);

struct State {
    free: [Option<NonNull<Free>>; CLASSES],
    next: usize,
    end: usize,
}

struct Free {
    next: Option<NonNull<Free>>,
}

const CLASSES: usize = 12;
const SMALLEST_SHIFT: u32 = 4;
const LARGEST: usize = 1 << (SMALLEST_SHIFT as usize + CLASSES - 1);
const CHUNK: usize = 128 << 10;
const PAGE: usize = 4096;

// SAFETY: one thread.
unsafe impl Sync for Blocks {}

#[global_allocator]
static BLOCKS: Blocks = Blocks(UnsafeCell::new(State {
    free: [None; CLASSES],
    next: 0,
    end: 0,
}));

fn class(layout: Layout) -> Option<usize> {
    let size = layout.size().max(layout.align()).max(1 << SMALLEST_SHIFT);
    (size <= LARGEST).then(|| (size.next_power_of_two().trailing_zeros() - SMALLEST_SHIFT) as usize)
}

fn pages(size: usize) -> usize {
    size.next_multiple_of(PAGE)
}

fn map(size: usize) -> *mut u8 {
    let (protection, flags) = (
        libc::PROT_READ | libc::PROT_WRITE,
        libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
    );
    // SAFETY: a new anonymous mapping touches nothing that exists.
    match unsafe {
        syscall(
            libc::SYS_mmap,
            [0, size, protection as usize, flags as usize, usize::MAX, 0],
        )
    } {
        Ok(address) => address as *mut u8,
        Err(_) => null_mut(),
    }
}

// SAFETY: blocks are disjoint, aligned to their power of two (or a page), and reused only when freed.
unsafe impl GlobalAlloc for Blocks {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some(class) = class(layout) else {
            return if layout.align() <= PAGE {
                map(pages(layout.size()))
            } else {
                null_mut()
            };
        };
        // SAFETY: one thread, and nothing below allocates.
        let state = unsafe { &mut *self.0.get() };
        if let Some(block) = state.free[class] {
            // SAFETY: blocks in the list hold a link.
            state.free[class] = unsafe { block.as_ref().next };
            return block.as_ptr().cast();
        }
        let size = 1usize << (class as u32 + SMALLEST_SHIFT);
        let mut start = state.next.next_multiple_of(size);
        if start + size > state.end || state.end == 0 {
            let chunk = map(CHUNK);
            if chunk.is_null() {
                return null_mut();
            }
            state.end = chunk as usize + CHUNK;
            start = (chunk as usize).next_multiple_of(size);
        }
        state.next = start + size;
        start as *mut u8
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        match class(layout) {
            Some(class) => {
                // SAFETY: one thread; the block is ours again and large enough for a link.
                unsafe {
                    let state = &mut *self.0.get();
                    let free = block.cast::<Free>();
                    free.write(Free {
                        next: state.free[class],
                    });
                    state.free[class] = NonNull::new(free);
                }
            }
            // SAFETY: mapped by `alloc` with this size.
            None => unsafe {
                let _ = syscall(libc::SYS_munmap, [block as usize, pages(layout.size()), 0, 0, 0, 0]);
            },
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the alignment was valid before.
        let new = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        match (class(layout), class(new)) {
            (Some(old), Some(new)) if old == new => block,
            // SAFETY: mapped by `alloc` with the old size.
            (None, None) => unsafe {
                let arguments = [
                    block as usize,
                    pages(layout.size()),
                    pages(size),
                    libc::MREMAP_MAYMOVE as usize,
                    0,
                    0,
                ];
                syscall(libc::SYS_mremap, arguments).map_or(null_mut(), |address| address as *mut u8)
            },
            _ => {
                // SAFETY: both blocks are valid for the shorter of the two sizes and do not overlap.
                unsafe {
                    let moved = self.alloc(new);
                    if !moved.is_null() {
                        ptr::copy_nonoverlapping(block, moved, layout.size().min(size));
                        self.dealloc(block, layout);
                    }
                    moved
                }
            }
        }
    }
}

// Written in assembly so that the compiler cannot turn their loops into calls of themselves.
#[cfg(target_arch = "x86_64")]
core::arch::global_asm!(
    r#"
.globl memcpy
.globl memmove
.globl memset
.globl memcmp
.globl bcmp
.globl strlen
memcpy:
    mov rax, rdi
    mov rcx, rdx
    rep movsb
    ret
memmove:
    mov rax, rdi
    mov rcx, rdx
    mov r8, rdi
    sub r8, rsi
    cmp r8, rdx
    jb 2f
    rep movsb
    ret
2:
    lea rdi, [rdi + rdx - 1]
    lea rsi, [rsi + rdx - 1]
    std
    rep movsb
    cld
    ret
memset:
    mov r8, rdi
    mov eax, esi
    mov rcx, rdx
    rep stosb
    mov rax, r8
    ret
memcmp:
bcmp:
    xor ecx, ecx
3:
    cmp rcx, rdx
    je 4f
    movzx eax, byte ptr [rdi + rcx]
    movzx r8d, byte ptr [rsi + rcx]
    inc rcx
    sub eax, r8d
    je 3b
    ret
4:
    xor eax, eax
    ret
strlen:
    xor eax, eax
5:
    cmp byte ptr [rdi + rax], 0
    je 6f
    inc rax
    jmp 5b
6:
    ret
"#
);

#[cfg(target_arch = "aarch64")]
core::arch::global_asm!(
    r#"
.globl memcpy
.globl memmove
.globl memset
.globl memcmp
.globl bcmp
.globl strlen
memcpy:
memmove:
    sub x3, x0, x1
    cmp x3, x2
    b.lo 2f
    mov x3, #0
1:
    cmp x3, x2
    b.eq 9f
    ldrb w4, [x1, x3]
    strb w4, [x0, x3]
    add x3, x3, #1
    b 1b
2:
    cbz x2, 9f
    sub x2, x2, #1
    ldrb w4, [x1, x2]
    strb w4, [x0, x2]
    b 2b
9:
    ret
memset:
    mov x3, #0
3:
    cmp x3, x2
    b.eq 9b
    strb w1, [x0, x3]
    add x3, x3, #1
    b 3b
memcmp:
bcmp:
    mov x3, #0
4:
    cmp x3, x2
    b.eq 5f
    ldrb w4, [x0, x3]
    ldrb w5, [x1, x3]
    add x3, x3, #1
    subs w4, w4, w5
    b.eq 4b
    mov w0, w4
    ret
5:
    mov w0, #0
    ret
strlen:
    mov x1, x0
6:
    ldrb w2, [x1]
    cbz w2, 7f
    add x1, x1, #1
    b 6b
7:
    sub x0, x1, x0
    ret
"#
);
