// This process as Prometheus's own client libraries describe one (process_*), read from /proc at
// scrape time.
#pragma once
#include <vector>

#include "prometheus/metric_family.h"

namespace modu::telemetry {

/// Families that could be read; a missing /proc leaves them out.
std::vector<prometheus::MetricFamily> ProcessMetrics();

}  // namespace modu::telemetry
