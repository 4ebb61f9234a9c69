process find {
    output:
    path 'inbox/*.csv'

    script:
    """
    mkdir -p inbox; touch inbox/a.csv inbox/b.csv inbox/c.csv
    """
}

process load {
    input:
    path file

    output:
    path "${file}.size"

    script:
    """
    wc -c < $file > ${file}.size
    """
}

process report {
    publishDir '.'

    input:
    path sizes

    output:
    path 'report.txt'

    script:
    """
    ls $sizes > report.txt
    """
}

workflow {
    find()
    load(find.out.flatten())
    report(load.out.collect())
}
