// Standard descriptors that were closed when tidemark was started.
//
// Without care the first file that is opened becomes descriptor 0, 1 or 2, and a message "to stderr" goes into a trace.
// /dev/null takes the free numbers; close-on-exec, so that a profiled command finds them closed as record found them.
#pragma once

#include <fcntl.h>

namespace tidemark {

inline void OccupyStandardDescriptors() {
  for (int fd = 0; fd <= 2; ++fd) {
    if (fcntl(fd, F_GETFD) == -1) (void)open("/dev/null", O_RDWR | O_CLOEXEC);
  }
}

}  // namespace tidemark
