// prctl() and syscall(), watched for programs that lock themselves in; see sandbox_hooks.cc.
#pragma once

namespace tidemark {

// Call once at start: finds who serves the two behind us.
void FindSandboxCalls();

}  // namespace tidemark
