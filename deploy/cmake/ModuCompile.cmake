# How our own code is compiled: one place for warnings, hardening, sanitizers and include paths.
find_package(Threads REQUIRED)

add_library(modu_compile INTERFACE)
target_include_directories(modu_compile INTERFACE ${CMAKE_SOURCE_DIR})
target_compile_options(modu_compile INTERFACE
  -Wall -Wextra -Wno-missing-field-initializers -Wno-unused-parameter
  -fstack-protector-strong -fno-omit-frame-pointer -ffp-contract=off)
target_link_libraries(modu_compile INTERFACE Threads::Threads)
target_compile_definitions(modu_compile INTERFACE MODU_VERSION="${PROJECT_VERSION}")
if(NOT MODU_SANITIZE)
  # _FORTIFY_SOURCE and the sanitizers do not mix.
  target_compile_options(modu_compile INTERFACE $<$<CONFIG:Release>:-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2>)
else()
  # These programs run once per build, so compile time counts as much as their own: only what computes much is optimised.
  target_compile_options(modu_compile INTERFACE -O$<OR:$<BOOL:${MODU_FUZZ}>,$<BOOL:$<TARGET_PROPERTY:MODU_COMPUTES>>>
    -fsanitize=${MODU_SANITIZE} -fno-sanitize-recover=all)
  target_link_options(modu_compile INTERFACE -fsanitize=${MODU_SANITIZE})
  target_compile_definitions(modu_compile INTERFACE _GLIBCXX_ASSERTIONS)
endif()
if(MODU_FUZZ)
  target_compile_options(modu_compile INTERFACE -fsanitize=fuzzer-no-link)  # coverage, which guides libFuzzer
  target_link_options(modu_compile INTERFACE -fsanitize=fuzzer-no-link)
endif()

# modu_library(NAME [COMPUTES] [SOURCES ...] [DEPS ...])
# Without SOURCES every .cc of the folder. A room is one library; a new file needs no edit here. COMPUTES: what it does with
# the processor is what it is for, so that it is optimised under a sanitizer too.
function(modu_library name)
  cmake_parse_arguments(arg "COMPUTES" "" "SOURCES;DEPS" ${ARGN})
  if(NOT arg_SOURCES)
    file(GLOB arg_SOURCES CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.cc)
  endif()
  if(arg_SOURCES)
    add_library(${name} STATIC ${arg_SOURCES})
    target_link_libraries(${name} PUBLIC modu_compile ${arg_DEPS})
    set_target_properties(${name} PROPERTIES MODU_COMPUTES "${arg_COMPUTES}")
  else()
    add_library(${name} INTERFACE)
    target_link_libraries(${name} INTERFACE modu_compile ${arg_DEPS})
  endif()
endfunction()

# modu_executable(NAME [SOURCES ...] [DEPS ...])
function(modu_executable name)
  cmake_parse_arguments(arg "" "" "SOURCES;DEPS" ${ARGN})
  add_executable(${name} ${arg_SOURCES})
  target_link_libraries(${name} PRIVATE modu_compile ${arg_DEPS})
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR})
endfunction()
