"""The servers and engines that `compare` measures, a module each, behind one interface:

    name       the row's name
    about      how it is run, one line for the report
    prepare()  builds, fetches, converts; once, before anything is measured
    measure(point, seed)  one run on a fresh process; figures as modu-loadgen's JSON has them, and ready_s
"""
