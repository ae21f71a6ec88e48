/* tidemark's in-application interface. All functions are weak: a program that uses them links and runs without the
 * library, in which case they are null pointers; call them through the TIDEMARK_* macros, which check.
 *
 *   cc app.c $(pkg-config --cflags tidemark)                 # no link dependency
 *   tidemark record -- ./app
 *
 * All functions are thread-safe and async-signal-safe, never fail and leave errno alone. */
#ifndef TIDEMARK_H
#define TIDEMARK_H

#ifdef __cplusplus
extern "C" {
#endif

/* 1 while this process's heap is being recorded, else 0. */
__attribute__((weak)) int tidemark_is_recording(void);

/* Puts a named mark (at most 256 bytes of UTF-8 are kept) at this moment of this thread into the trace. */
__attribute__((weak)) void tidemark_mark(const char* text);

/* The library's version, for example "0.1.0". Static storage. */
__attribute__((weak)) const char* tidemark_version(void);

#define TIDEMARK_IS_RECORDING() (tidemark_is_recording ? tidemark_is_recording() : 0)
#define TIDEMARK_MARK(text) (tidemark_mark ? tidemark_mark(text) : (void)0)

#ifdef __cplusplus
}
#endif
#endif
