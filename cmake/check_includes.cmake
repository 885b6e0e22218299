# cmake -DFILES=a.c;b.h -DSTAMP=file -P check_includes.cmake: no include may climb out of the layer's folder.
foreach(file IN LISTS FILES)
    file(STRINGS "${file}" bad REGEX "^[ \t]*#[ \t]*include[ \t]*[\"<]([^\">]*/)?\\.\\./")
    file(STRINGS "${file}" absolute REGEX "^[ \t]*#[ \t]*include[ \t]*[\"</]/")
    if(bad OR absolute)
        message(FATAL_ERROR "${file}: includes are written from the root of the repository, without ../: ${bad}${absolute}")
    endif()
endforeach()
file(TOUCH "${STAMP}")
