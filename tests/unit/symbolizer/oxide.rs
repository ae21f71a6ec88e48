// The Rust program of the symbolizer tests: a method of a struct in a module, with generics.
#![allow(named_asm_labels)]
mod layers {
    pub struct Crate<T> {
        pub value: T,
    }
    impl<T: Copy + Into<u64>> Crate<T> {
        #[inline(never)]
        pub fn weigh(&self, x: u64) -> u64 {
            unsafe { std::arch::asm!(".globl label_rust", "label_rust: nop") }; // TAG: rust
            self.value.into() * x
        }
    }
}

fn main() {
    let count = std::env::args().count() as u64;
    let owned = layers::Crate { value: 3u32 };
    println!("{}", owned.weigh(count));
}
