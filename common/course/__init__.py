"""The command line of the course, `python -m common.course`; no other package imports it.

What stands where:

    cli.py, commands/     the commands: their options, what they print
    checks.py             what a user names, looked at before anything is imported or started
    lessons.py, kernel.py, runner.py, side_by_side.py, sweep.py, refresh.py
                          notebooks: found, given parameters, run; grids of them; their outputs kept
    evaluate.py, predict.py, predict_images.py, caption.py, parts.py, names.py
                          networks asked about images; what is done kept until all is
    report.py, words.py, tables.py, compare.py, study.py
                          finished runs as tables; comparisons of many trainings made
    overview.py, run_page.py, sweep_page.py, html.py, pages.py, charts.py
                          pages under `outputs/`
    bootstrap.py, begin.py, setup.py, testing.py, environment.py, quiet.py
                          the first cell of a lesson, `.venv`, all tests, variables, a silent start
"""
