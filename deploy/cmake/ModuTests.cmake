# Tests. A test's label says what it may cost: `fast` (no network, no real model, the whole label under two minutes),
# `slow` (the real default model, simulations in bulk) and `e2e` (a running server). A program's timeout is several times what
# it needs alone: it catches one that hangs, and lets pass one on a machine that is busy or sanitized.
set(MODU_TEST_SECONDS_fast 300)
set(MODU_TEST_SECONDS_slow 1200)
set(MODU_TEST_SECONDS_e2e 900)
if(MODU_SANITIZE)
  set(MODU_TEST_SECONDS_fast 1200)  # TSan makes arithmetic some 15 times slower
endif()

if(MODU_TESTS)
  find_package(Catch2 REQUIRED CONFIG)  # 2 (Debian 12) or 3 (Debian 13); tests include "tests/catch.h"
  add_library(modu_catch STATIC ${CMAKE_SOURCE_DIR}/tests/catch_main.cc)
  target_link_libraries(modu_catch PUBLIC modu_compile Catch2::Catch2)
  target_compile_definitions(modu_catch PUBLIC MODU_SOURCE_DIR="${CMAKE_SOURCE_DIR}")
  target_compile_options(modu_catch INTERFACE $<$<CXX_COMPILER_ID:GNU>:-fpch-preprocess>)  # ccache can keep what includes it
  # Catch precompiled once for all the tests.
  add_executable(modu_catch_pch EXCLUDE_FROM_ALL ${CMAKE_SOURCE_DIR}/tests/precompiled.cc)
  target_link_libraries(modu_catch_pch PRIVATE modu_catch)
  target_precompile_headers(modu_catch_pch PRIVATE ${CMAKE_SOURCE_DIR}/tests/catch.h)
endif()

# What `make sanitize` builds: the fast tests, and nothing that only they do not need.
add_custom_target(modu_fast_tests)

# modu_test(NAME LABEL fast|slow|e2e [LINKS_GRPC] [COMPUTES] [SOURCES ...] [DEPS ...]): one Catch2 program, one ctest entry.
# LINKS_GRPC: left out of a TSan build, where the distribution's gRPC, which is not instrumented, only raises false alarms.
# COMPUTES: as in modu_library, of the test itself.
function(modu_test name)
  cmake_parse_arguments(arg "LINKS_GRPC;COMPUTES" "LABEL" "SOURCES;DEPS" ${ARGN})
  if(NOT arg_SOURCES)
    file(GLOB arg_SOURCES CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*_test.cc)
  endif()
  if(NOT arg_SOURCES OR (arg_LINKS_GRPC AND MODU_SANITIZE MATCHES "thread"))
    return()
  endif()
  if(NOT arg_LABEL)
    set(arg_LABEL fast)
  endif()
  add_executable(${name} ${arg_SOURCES})
  target_link_libraries(${name} PRIVATE modu_catch ${arg_DEPS})
  set_target_properties(${name} PROPERTIES MODU_COMPUTES "${arg_COMPUTES}")
  if(arg_COMPUTES AND MODU_SANITIZE)  # a precompiled header serves one level of optimisation
    target_precompile_headers(${name} PRIVATE ${CMAKE_SOURCE_DIR}/tests/catch.h)
  else()
    target_precompile_headers(${name} REUSE_FROM modu_catch_pch)
  endif()
  modu_add_test(${name} ${arg_LABEL} COMMAND ${name} WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
  if(arg_LABEL STREQUAL fast)
    add_dependencies(modu_fast_tests ${name})
  endif()
endfunction()

# modu_add_test(NAME LABEL COMMAND ...): a ctest entry under its label's budget.
function(modu_add_test name label)
  add_test(NAME ${name} ${ARGN})
  set_tests_properties(${name} PROPERTIES LABELS ${label} TIMEOUT ${MODU_TEST_SECONDS_${label}})
  if(MODU_SANITIZE MATCHES "thread")
    set_tests_properties(${name} PROPERTIES
      ENVIRONMENT "TSAN_OPTIONS=suppressions=${CMAKE_SOURCE_DIR}/deploy/cmake/tsan-suppressions")
  endif()
endfunction()
