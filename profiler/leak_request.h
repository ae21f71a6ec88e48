// Leak checks on demand, the process's side: takes up what the collector asks for (session.h: leak_request).
//
// The request is a word in the segment; a signal makes some thread look at it. That is SIGURG, which is ignored by
// default: a process that has no handler of ours any more (after exec, say) is not harmed. It is taken only if the
// program has left it alone; one that installs a handler later has it, and cannot be asked.
//
// Context: Start() in the constructor, where leak checks are on; the handler in any thread, anywhere.
#pragma once

namespace tidemark::leak_request {

void Start();
// The image attaches to a new session (a forked child): tells its collector.
void Tell();

}  // namespace tidemark::leak_request
