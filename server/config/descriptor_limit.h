// File descriptors are what a crowd of connections runs out of first, and libraries fail badly
// without them: gRPC ends the process, or its port for good. Connections therefore never get the
// last ones.
#pragma once

namespace modu::config {

/// Raises the soft limit to the hard one; many systems start a program with 1,024. Start-up thread.
void RaiseDescriptorLimit();

/// A public connection that got this descriptor or a higher one is to be closed at once: the kernel
/// gives the lowest free number, so that the number says how many are in use. Thread-safe.
int FirstReservedDescriptor();

/// The same for the admin port, which is let nearer to the limit and not up to it.
int FirstDescriptorClosedToAdmin();

}  // namespace modu::config
