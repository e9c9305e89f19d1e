// Python's two ways to format: 'text %s' % args and 'text {}'.format(args). Widths and precisions
// are bounded by the runtime's output budget.
#pragma once
#include <string>

#include "server/text/jinja/runtime.h"

namespace modu::text::jinja {

/// format % arguments: a tuple gives several, a dict serves %(name)s.
std::string PercentFormat(Runtime* runtime, const std::string& format, const Value& arguments);
/// format.format(*positional, **named), with {0[key].attribute!r:spec}.
std::string BraceFormat(Runtime* runtime, const std::string& format,
                        const CallArguments& arguments);

}  // namespace modu::text::jinja
