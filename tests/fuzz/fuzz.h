// What a fuzz target defines.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

/// Must return for any input; a crash, a CHECK, a sanitizer's report or a hang is the finding.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

/// Sound inputs to start from.
std::vector<std::string> FuzzSeeds();
